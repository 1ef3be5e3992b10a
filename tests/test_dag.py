"""The DAG as a user meets it, with real commands in a copy of the project whose digits take seconds.

The tests of this file share one workspace and run in their order, each going on from where the last one ended.
"""

import json
import shutil
from pathlib import Path

import pytest
from workspace import ROOT, Workspace, check_out, commit_all, copy_workspace, make_reduced

from pipeline.schema.curve import curve_path
from pipeline.schema.ledger import ledger_path, read_ledger
from pipeline.schema.project import load_project
from pipeline.schema.report import load_report
from pipeline.schema.study import find_study

pytestmark = pytest.mark.ci
REPORT = load_report(ROOT)
VIEWS = {"report"} | {
    f"{stage}@{name}"
    for stage, names in {"render": REPORT.tables, "draw": REPORT.figures, "text": REPORT.texts}.items()
    for name in names
}
STUDIES = ("node", "ddpm")


@pytest.fixture(scope="module")
def work(calm: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return copy_workspace(calm, tmp_path_factory.mktemp("dag") / "project")


def edit_params(work: Workspace, **lists: list) -> None:
    params = work.read("params.yaml")
    params["node"]["digits"] |= lists
    work.write("params.yaml", params)


def lock(work: Workspace) -> bytes:
    return (work.root / "dvc.lock").read_bytes()


def test_everything_is_there_after_one_command(work: Workspace):
    report = (work.root / "reports" / "README.md").read_text()
    tables = [f"Table {number}" for number in (1, 2, 3, 4)]
    for title in ("Verdicts", *tables, "Figure 6", "Figure 7", "Samples"):
        assert f"## {title}" in report
    samples = [f"{kind}/ddpm/digits/position=mlp/0.png" for kind in ("previews", "trajectories")]
    for picture in (*samples, "figure6.svg", "figure7.svg", "figure7.pdf"):
        assert (work.root / "reports" / picture).is_file()
    assert work.run("git", "status", "--porcelain").stdout == ""


def test_again_nothing_runs(work: Workspace):
    assert work.executed() == set()


def test_bytecode_and_documentation_dirty_nothing(work: Workspace):
    cache = work.root / "pipeline" / "schema" / "__pycache__"
    cache.mkdir(exist_ok=True)
    (cache / "new.cpython-311.pyc").write_bytes(b"x")
    (work.root / "README.md").write_text("changed")
    assert work.executed() == set()
    work.run("git", "checkout", "-q", "README.md")


def test_a_forced_training_leaves_the_lock_byte_for_byte(work: Workspace):
    before = lock(work)
    stages = ["train_node_digits@digits-baseline-0", "train_ddpm_digits@digits-position=mlp-0"]
    for stage in [*stages, "record_node@digits", "record_ddpm@digits"]:  # which keeps what it knew of the same bytes
        assert work.executed("--force", "--single-item", stage) == {stage}
    assert lock(work) == before
    assert work.run("git", "status", "--porcelain").stdout == ""


def test_what_git_keeps_survives_a_command_that_fails(work: Workspace):
    for stage in ("record_node@digits", "render@table1", "draw@figure6", "report"):
        work.run("dvc", "repro", "--force", "--single-item", stage, ok=False, PYTHONOPTIMIZE="1")
    assert work.run("git", "status", "--porcelain").stdout == ""
    assert work.executed() == set()


def test_the_ledger_names_what_dvc_lock_has(work: Workspace):
    locked = work.read("dvc.lock")["stages"]
    for study in STUDIES:
        steps = find_study(study).steps
        entries = read_ledger(ledger_path(work.root, study, "digits"))
        assert len(entries) == 2 * len(steps)
        for entry in entries:
            group = {"train": f"train_{study}", "sample": "sample", "evaluate": f"evaluate_{study}"}[entry.step]
            outs = locked[f"{group}_digits@digits-{entry.arm}-{entry.seed}"]["outs"]
            assert entry.output in {out["md5"] for out in outs if not out["path"].startswith("reports")}
            assert entry.seconds is not None
            assert entry.seconds > 0
            assert str(entry.device).startswith("cpu")


def find_stale(work: Workspace) -> set[str]:
    """Stages whose code or settings are others than they were made with, once the check has looked."""
    assert work.executed("check") == {"check"}
    return set(json.loads(work.run("dvc", "status", "--json").stdout))


def test_a_change_of_the_report_renders_and_trains_nothing(work: Workspace):
    with (work.root / "pipeline" / "report" / "markdown.py").open("a") as file:
        file.write("# A comment.\n")
        file.flush()
        assert find_stale(work) == set()
        file.write("TOUCHED = 1\n")
    assert find_stale(work) == VIEWS
    assert work.executed("render@table1", "text@theory") == {"render@table1", "text@theory"}


def test_a_change_of_cifars_budget_runs_nothing_on_digits(work: Workspace):
    for name in ("node", "ddpm"):
        spec = work.read(f"specs/{name}/study.yaml")
        spec["cases"]["cifar10"]["training"]["learning_rate"] = 0.01
        work.write(f"specs/{name}/study.yaml", spec)
    stale = find_stale(work)
    assert not [stage for stage in stale if stage.startswith(("fetch", "train", "sample", "evaluate", "record"))]
    assert {"render@table1", "render@table3"} <= stale  # which say what the paper's scale is


def test_a_new_arm_trains_itself_alone_goes_and_comes_back_from_the_cache(work: Workspace):
    train = "train_node_digits@digits-position=linear,groups=1-0"
    edit_params(work, arms=["baseline", "norm=batch", "position=linear,groups=1"])
    ran = work.drive("render@node_arms")
    assert {stage for stage in ran if stage.startswith("train")} == {train}
    assert {stage for stage in ran if stage.startswith("evaluate")} == {train.replace("train", "evaluate")}
    assert not [stage for stage in ran if stage.startswith(("fetch", "sample"))]
    assert "`position=linear,groups=1`" in (work.root / "reports" / "node_arms.md").read_text()
    weights = work.root / "runs/node/digits/position=linear,groups=1/0/last.safetensors"
    trained = weights.read_bytes()

    edit_params(work, arms=["baseline", "norm=batch"])
    ran = work.drive("render@node_arms")
    assert not [stage for stage in ran if stage.startswith(("fetch", "train", "sample", "evaluate"))]
    assert "position=linear,groups=1" not in (work.root / "reports" / "node_arms.md").read_text()
    assert not [path for room in ("records", "metrics") for path in (work.root / room).rglob("*groups=1*")]

    shutil.rmtree(weights.parent.parent)
    edit_params(work, arms=["baseline", "norm=batch", "position=linear,groups=1"])
    ran = work.drive("render@node_arms")
    assert not [stage for stage in ran if stage.startswith(("fetch", "train", "sample"))]
    assert weights.read_bytes() == trained


def test_runs_that_fail_are_shown_and_the_others_go_on(work: Workspace):
    failing, report = "max_steps=2", work.root / "reports"
    edit_params(work, arms=["baseline", failing, "groups=2"])
    ddpm = work.read("specs/ddpm/study.yaml")
    ddpm["cases"]["digits"]["training"] |= {"learning_rate": 1.0e30, "warmup": 0}
    work.write("specs/ddpm/study.yaml", ddpm)
    ran = work.drive()
    assert {f"train_node_digits@digits-{arm}-0" for arm in (failing, "groups=2")} <= ran
    record = json.loads((work.root / "records/node/digits" / failing / "0.json").read_text())
    assert record["status"] == "failed"
    row = next(line for line in (report / "node_arms.md").read_text().splitlines() if line.startswith("| max_steps=2"))
    assert "0 of 1, 1 failed" in row
    assert "in epoch 1: max_steps = 2 exceeded" in (report / "node_arms.md").read_text()
    for arm in ("baseline", "position=mlp"):
        record = json.loads((work.root / "records/ddpm/digits" / arm / "0.json").read_text())
        assert record["status"] == "failed"
        assert "the training diverged" in record["reason"]
    assert "failed: `baseline`, seed 0, after" in (report / "table3.md").read_text()
    assert "seed 0; none, its training failed" in (report / "index.html").read_text()
    assert work.executed() == set()  # a failure is a result: it is not run again


def test_strictness_names_the_failed_runs_each_time(work: Workspace):
    params = work.read("params.yaml")
    params["resources"]["strict"] = True
    work.write("params.yaml", params)
    for _ in range(2):
        result = work.run("dvc", "repro", ok=False)
        assert result.returncode != 0
        assert "error: node digits: failed: `max_steps=2`, seed 0" in result.stderr
        ran = {line.split("'")[1] for line in result.stdout.splitlines() if line.startswith("Running stage")}
        assert ran <= {"check", "strict"}
    work.run("git", "checkout", "-q", ".")
    work.run("git", "clean", "-fdq")
    work.run("dvc", "checkout", "-q")


def test_a_new_seed_trains_that_seed_of_every_arm(work: Workspace):
    edit_params(work, arms=["baseline", "norm=batch"], seeds=[0, 5])
    ran = work.drive("render@table1", "render@node_arms")
    trained = {stage for stage in ran if stage.startswith("train")}
    assert trained == {f"train_node_digits@digits-{arm}-5" for arm in ("baseline", "norm=batch")}
    assert "±" in (work.root / "reports" / "table1.md").read_text()


def test_params_and_metrics_behave_as_in_any_dvc_project(work: Workspace):
    commit_all(work)
    edit_params(work, seeds=[0])
    changed = work.run("dvc", "params", "diff").stdout
    assert "node.digits.seeds" in changed
    shown = work.run("dvc", "metrics", "show").stdout
    header, *rows = shown.splitlines()
    project = load_project(work.root)
    assert header.split() == ["Path", *sorted({key for spec in project.specs.values() for key in spec.headline})]
    assert sorted(row.split()[0] for row in rows) == sorted(
        {f"metrics/{run.study}/{run.case}/{run.arm}.json" for run in project.runs()}
    )
    work.run("dvc", "repro", "record_node@digits")
    changes = work.run("dvc", "metrics", "diff").stdout.splitlines()[1:]
    assert {tuple(line.split()[:2]) for line in changes} <= {
        (f"metrics/node/digits/{arm}.json", key) for arm in ("baseline", "norm=batch") for key in ("accuracy", "nfe")
    }
    assert changes  # the mean over seeds 0 and 5 became that of seed 0
    drawn = json.loads(work.run("dvc", "plots", "diff", "--json").stdout)["data"]
    assert {path for path in drawn if path.startswith("curves/")} == {
        str(curve_path(Path(), study, "digits", curve)) for study in STUDIES for curve in find_study(study).curves
    }
    values = drawn["curves/node/digits/accuracy.tsv"][0]["content"]["data"]["values"]
    seeds = {revision: {row["seed"] for row in values if row["rev"] == revision} for revision in ("HEAD", "workspace")}
    assert seeds == {"HEAD": {"0", "5"}, "workspace": {"0"}}
    shown = work.run("dvc", "exp", "show", "--csv").stdout.splitlines()[0]
    assert "metrics/ddpm/digits/baseline.json:fid" in shown
    assert "train_node_digits@digits-baseline-0" in work.run("dvc", "dag").stdout
    work.run("git", "checkout", "-q", ".")
    work.run("dvc", "checkout", "-q")


def test_an_experiment_sweeps_from_the_command_line(work: Workspace):
    table = "render@node_arms"
    arms = 'node.digits.arms=[baseline,"groups=2"]'
    work.run("dvc", "exp", "run", "-S", arms, "-S", "node.digits.seeds=[0]", table)
    assert (work.root / "records/node/digits/groups=2/0.json").is_file()
    assert "`groups=2`" in (work.root / "reports" / "node_arms.md").read_text()
    assert len(work.run("dvc", "exp", "list", "--name-only").stdout.split()) == 1
    work.run("git", "checkout", "-q", ".")
    work.run("git", "clean", "-fdq")
    work.run("dvc", "checkout", "-q")
    # The experiment's models stay in runs/, below the folder that the stage `record` depends on: it alone looks again.
    assert work.executed(table) <= {"check", "record_node@digits"}
    assert work.executed(table) == set()
    assert work.run("git", "status", "--porcelain", ":!dvc.lock").stdout == ""  # the lock names that folder's content


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("threads: 1", "threads: 0", ": compute.threads = 0: allowed: at least 1"),
        (
            "threads: 1",
            "threads: 1\n  thread: 2",
            ": compute: unknown key thread (did you mean 'threads'?); allowed: device",
        ),
        ("- norm=batch", "- norm=bach", ": node.digits.arms.1: arm 'norm=bach'"),
    ],
)
def test_dvc_repro_refuses_a_mistake_before_anything_runs(work: Workspace, old: str, new: str, says: str):
    path = work.root / "params.yaml"
    right = path.read_text()
    assert old in right
    path.write_text(right.replace(old, new, 1))
    result = work.run("dvc", "repro", ok=False)
    path.write_text(right)
    assert result.returncode != 0
    output = result.stdout + result.stderr
    assert says in output
    assert "Traceback" not in output
    assert [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")] == ["check"]


def test_a_clone_without_data_has_nothing_to_do(calm: Workspace, tmp_path: Path):
    calm.run("git", "clone", "-q", str(calm.root), str(tmp_path / "clone"))
    clone = Workspace(tmp_path / "clone")
    dry = clone.run("dvc", "repro", "--allow-missing", "--dry").stdout
    assert "Running stage" not in dry, dry


def test_the_committed_lock_records_and_report_agree():
    """In a fresh clone of this project, without data, there is nothing to do."""
    dry = check_out().run("dvc", "repro", "--allow-missing", "--dry").stdout
    assert "Running stage" not in dry, dry


def test_an_arm_of_two_tables_is_one_stage_and_the_lock_has_no_other():
    names = check_out().run("dvc", "stage", "list", "--name-only").stdout.split()
    left = set(check_out().read("dvc.lock")["stages"]) - set(names)
    assert not left, f"DVC never forgets a stage that is no longer in the panel: delete them from dvc.lock: {left}"
    assert set(names) == set(check_out().read("dvc.lock")["stages"])
    assert len(set(names)) == len(names)
    for seed in (0, 1):
        assert names.count(f"train_node_digits@digits-baseline-{seed}") == 1
    tables = [(ROOT / "specs" / "node" / "tables" / f"table{number}.yaml").read_text() for number in (1, 4)]
    assert all("arm: baseline" in table for table in tables)


def test_a_model_that_was_exported_and_imported_again_samples_the_same_images(work: Workspace):
    """As an arm of its own, without a training: through diffusers' format and back."""
    out = work.run("python", "-m", "pipeline", "export", "digits", "baseline", "0", "exported").stdout
    assert "ema-0000006.safetensors -> exported" in out
    printed = work.run("python", "-m", "pipeline", "import", "exported", "mine", "--case", "digits").stdout
    entry, arm = printed.split("# params.yaml: ddpm.digits.arms\n- ")
    arm = arm.splitlines()[0].strip('"')
    assert arm.startswith("weights=mine-")  # the attentions that only the format has are seen to do nothing
    spec = work.root / "specs" / "ddpm" / "study.yaml"
    spec.write_text(spec.read_text().replace("imports: {}\n", entry))
    params = work.read("params.yaml")
    params["ddpm"]["digits"]["arms"].append(arm)
    work.write("params.yaml", params)
    name = f"digits-{arm}-0"
    ran = work.executed(f"evaluate_ddpm_digits@{name}")
    assert ran == {f"{stage}@{name}" for stage in ("train_ddpm_digits", "sample_digits", "evaluate_ddpm_digits")} | {
        "check"
    }
    folder = work.root / "samples" / "ddpm" / "digits"
    for file in ("set-0.safetensors", "set-1.safetensors", "trajectory.safetensors"):
        assert (folder / arm / "0" / file).read_bytes() == (folder / "baseline" / "0" / file).read_bytes()
    evaluations = work.root / "evaluations" / "ddpm" / "digits"
    mine, original = (json.loads((evaluations / name / "0.json").read_text()) for name in (arm, "baseline"))
    assert mine["fid"] == original["fid"]
    assert (mine["training_steps"], mine["initial"]) == (0, None)
    assert mine["protocol"]["weights"] == arm.split("weights=")[1]
    work.run("git", "checkout", "-q", ".")
    work.run("git", "clean", "-fdq")
    work.run("dvc", "checkout", "-q")


def test_cifar_is_fetched_trained_and_refused_without_the_inception_weights(tmp_path: Path):
    """The paper's datasets take the same path: a local archive in the true format, a network cut down."""
    from test_data import cifar_archive

    work = make_reduced(tmp_path / "project")
    archive = tmp_path / "cifar-10-binary.tar.gz"
    source = cifar_archive(archive, each=30)
    data = work.read("specs/data.yaml")
    data["datasets"]["cifar10"]["source"] = source.model_dump()
    data["mirrors"][source.file] = [str(tmp_path / "none"), archive.as_uri()]
    weights = data["datasets"]["cifar10"]["extractor"]["file"]
    data["mirrors"][weights] = [str(tmp_path)]
    work.write("specs/data.yaml", data)
    node = work.read("specs/node/study.yaml")
    node["cases"]["cifar10"]["network"] = {"channels": 8, "stem_channels": 8, "groups": 4}
    node["cases"]["cifar10"]["training"] |= {"epochs": 1}
    work.write("specs/node/study.yaml", node)
    ddpm = work.read("specs/ddpm/study.yaml")
    ddpm["cases"]["cifar10"]["network"] = {"channels": 8, "groups": 4, "blocks": 1}
    ddpm["cases"]["cifar10"]["training"] |= {"steps": 1}
    ddpm["cases"]["cifar10"]["sampling"] |= {"images": 2049, "sets": 1, "first_snapshot": None, "steps": 1}
    work.write("specs/ddpm/study.yaml", ddpm)
    params = work.read("params.yaml")
    params["cases"] |= {"node": ["cifar10"], "ddpm": ["cifar10"]}
    for study in STUDIES:
        # In place of the old lists, whose comments would end up in the wrong lines.
        params[study]["digits"] = {"seeds": [], "arms": [], "more": {"seeds": [], "arms": []}}
        params[study]["cifar10"] |= {"seeds": [0], "arms": ["baseline"]}
    work.write("params.yaml", params)

    item = "cifar10@cifar10-baseline-0"
    ran = work.drive(f"evaluate_node_{item}", f"sample_{item}", "render@table1")
    assert "train_node_cifar10@cifar10-baseline-0" in ran
    assert not [stage for stage in ran if "digits" in stage]
    table = (work.root / "reports" / "table1.md").read_text()
    assert "91.76" in table
    assert "not the paper's scale" not in table
    result = work.run("dvc", "repro", "evaluate_ddpm_cifar10@cifar10-baseline-0", ok=False)
    assert result.returncode != 0
    output = result.stdout + result.stderr
    assert f"error: downloads/{weights}: no such file, and no mirror gives it ({tmp_path}: no such file)" in output
    assert f"put the file at downloads/{weights} by hand" in output
    assert "Traceback" not in output
