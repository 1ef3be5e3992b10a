"""How the house grows: what an extension, an edit or a merge makes stale, with real commands in a reduced copy.

Each test takes a copy of the calm workspace, in which nothing is to be done.
"""

import json
import re
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from workspace import Workspace, commit_all, copy_workspace

pytestmark = pytest.mark.ci

COSTLY = ("fetch", "train", "sample", "extractor", "reference", "evaluate")
"""Beginnings of the names of stages whose outputs are costly."""

COIN = '''"""The study `coin`: the share of heads in so many tosses of a biased coin."""

from pydantic import Field

from pipeline.schema.base import Strict
from pipeline.schema.study import MeasuredRecord, Run, Study


class Coin(Strict):
    """The coin."""

    heads: float = Field(0.5, ge=0, le=1, description="probability of heads")
    tosses: int = Field(100, ge=1, description="of one run")


class CoinRun(Run):
    """One coin, tossed."""

    coin: Coin


class CoinRecord(MeasuredRecord):
    """What fell."""

    share: float = Field(description="of heads")
    share_exact: float = Field(description="its expectation")
    share_stderr: float = Field(description="its standard deviation")


def _measure(run: CoinRun) -> CoinRecord:
    import numpy as np

    p, n = run.coin.heads, run.coin.tosses
    share = np.random.default_rng(run.seed).binomial(n, p) / n
    return CoinRecord(share=share, share_exact=p, share_stderr=(p * (1 - p) / n) ** 0.5)


STUDY = Study("coin", CoinRun, CoinRecord, _measure, cases=("table",))
'''
SPECS = {
    "study.yaml": {
        "title": "Coins",
        "source": "ours",
        "headline": ["share"],
        "base": {"coin": {"tosses": 400}},
        "cases": {"table": {}},
    },
    "tables/coins.yaml": {
        "title": "Table C: coins",
        "caption": "Heads.",
        "rows": "all",
        "columns": [{"key": "share", "label": "Share", "digits": 2}],
    },
    "figures/tosses.yaml": {
        "title": "Figure C: tosses",
        "caption": "More tosses.",
        "x": {"field": "tosses", "label": "tosses", "base": 10},
        "y": {"key": "share", "label": "share", "digits": 2},
        "series": None,
    },
    "claims.yaml": {
        "seeds": 2,
        "claims": [
            {
                "id": "coin1",
                "statement": "Half of the tosses of a fair coin are heads",
                "source": "probability",
                "comparisons": [{"kind": "agrees", "key": "share", "arm": "baseline"}],
            }
        ],
    },
}
STANZAS = """
  measure_coin_table:
    <<: *measure
    matrix: { study: [coin], case: [table], arm: "${coin.table.arms}", seed: "${coin.table.seeds}" }

  measure_coin_table_more:
    <<: *measure
    matrix: { study: [coin], case: [table], arm: "${coin.table.more.arms}", seed: "${coin.table.more.seeds}" }

  record_coin:
    <<: *record
    matrix: { study: [coin], case: "${cases.coin}" }
"""


@pytest.fixture
def work(calm: Workspace, tmp_path: Path) -> Workspace:
    return copy_workspace(calm, tmp_path / "project")


def find_stale(work: Workspace) -> set[str]:
    """What DVC would run, once the check has looked."""
    work.executed("check")
    return set(json.loads(work.run("dvc", "status", "--json").stdout))


def find_costly(stages: set[str]) -> set[str]:
    return {stage for stage in stages if stage.startswith(COSTLY)}


def edit(work: Workspace, name: str, old: str, new: str) -> None:
    path = work.root / name
    text = path.read_text()
    assert old in text, f"{name}: {old}"
    path.write_text(text.replace(old, new, 1))


def test_a_study_is_one_file_of_python_and_its_specs(work: Workspace):
    (work.root / "pipeline" / "studies" / "coin.py").write_text(COIN)
    for name, content in SPECS.items():
        path = work.root / "specs" / "coin" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        work.write(f"specs/coin/{name}", content)
    params = work.read("params.yaml")
    params["cases"]["coin"] = ["table"]
    more = {"seeds": [3], "arms": ["tosses=40", "tosses=4000"]}
    params["coin"] = {"table": {"seeds": [0, 1], "arms": ["baseline", "heads=0.25"], "more": more}}
    work.write("params.yaml", params)
    report = work.read("specs/report.yaml")
    report["studies"].append("coin")
    report["tables"]["coins"] = report["figures"]["tosses"] = "coin"
    report["order"] += ["coins", "tosses"]
    work.write("specs/report.yaml", report)
    edit(work, "dvc.yaml", "  # ---- Report ", STANZAS.lstrip("\n") + "\n  # ---- Report ")

    ran = work.drive()
    assert find_costly(ran) == set()
    assert {"render@coins", "draw@tosses", "record_coin@coin-table", "report"} <= ran
    assert len([stage for stage in ran if stage.startswith("measure_coin_table")]) == 6
    page = (work.root / "reports" / "README.md").read_text()
    assert "Table C: coins" in page
    assert "Figure C: tosses" in page
    verdicts = (work.root / "reports" / "verdicts.md").read_text()
    row = next(line for line in verdicts.splitlines() if "fair coin" in line)
    assert "holds" in row
    html = (work.root / "reports" / "index.html").read_text()
    assert "Table C: coins" in html
    assert "coin,table,baseline,0,,share," in (work.root / "reports" / "records.csv").read_text()
    assert work.executed() == set()


def add_field(work: Workspace, effect: str) -> None:
    """A field of the NODE network, `scale`, whose default is the old behaviour; and numerics that look at it."""
    edit(
        work,
        "pipeline/studies/node/study.py",
        '    adjoint_norm: Literal["mixed", "seminorm"] = Field(',
        '    scale: float = Field(1.0, gt=0, le=100, description="of the sites")\n'
        '    adjoint_norm: Literal["mixed", "seminorm"] = Field(',
    )
    edit(
        work,
        "pipeline/studies/node/timed_conv.py",
        "        return z.add_(offset)",
        effect + "        return z.add_(offset)",
    )


def test_a_new_field_is_stale_until_its_models_are_kept(work: Workspace):
    add_field(work, "        if self.network.scale != 1:\n            z = z * self.network.scale\n")
    stale = find_stale(work)
    assert {stage for stage in stale if stage.startswith("train")} == {
        f"train_node_digits@digits-{arm}-0" for arm in ("baseline", "norm=batch")
    }
    said = work.run("python", "-m", "pipeline", "keep", "node").stdout
    assert "the traces of 2 arms are unchanged: 2 outputs kept" in said
    ran = work.drive()
    assert not [stage for stage in ran if stage.startswith(("train", "sample"))]
    assert {stage for stage in ran if stage.startswith("evaluate")} <= {
        f"evaluate_node_digits@digits-{arm}-0" for arm in ("baseline", "norm=batch")
    }
    changed = work.run("git", "diff", "--unified=0", "records").stdout.splitlines()
    said = {line[1:].strip().rstrip(",") for line in changed if line.startswith(("+ ", "- "))}
    assert said == {'"network.scale": 1.0'}  # what decided the run, said in full
    assert work.run("git", "status", "--porcelain", "reports/table1.md").stdout == ""
    assert "scale=2.0" in work.run("python", "-m", "pipeline", "show", "node", "digits", "scale=2.0").stdout


def name_closure(stage: str) -> str:
    """Of a stage; a study that is measured in one step has its own."""
    name = stage.split("@")[0]
    return name.split("_")[1] if name.startswith("measure_") else name.removesuffix("_digits")


def test_an_edit_of_numerics_is_refused_by_keep(work: Workspace):
    edit(
        work,
        "pipeline/studies/node/timed_conv.py",
        "        return z.add_(offset)",
        "        z = z * 1.5\n        return z.add_(offset)",
    )
    stale = find_stale(work)
    closures = work.root / "closures"
    having = {path.stem for path in closures.glob("*.txt") if "studies/node/timed_conv.py" in path.read_text()}
    assert {name_closure(stage) for stage in stale} <= having
    assert "train_node_digits@digits-baseline-0" in stale
    assert not [stage for stage in stale if "ddpm" in stage]
    before = (work.root / "dvc.lock").read_bytes()
    result = work.run("python", "-m", "pipeline", "keep", "node", ok=False)
    assert result.returncode == 1
    assert "digits baseline: training" in result.stderr
    assert "Traceback" not in result.stderr
    assert (work.root / "dvc.lock").read_bytes() == before


def test_runners_words_and_titles_make_nothing_stale_and_a_checkpoint_goes_on(work: Workspace, tmp_path: Path):
    params = work.read("params.yaml")
    params["node"]["digits"]["seeds"] = [0, 7]
    params["node"]["digits"]["arms"] = ["baseline", "norm=batch", "epochs=20"]
    params["resources"]["checkpoint_minutes"] = 0
    work.write("params.yaml", params)
    stage = "train_node_digits@digits-epochs=20-7"
    with (tmp_path / "log").open("wb") as log:
        process = work.start("dvc", "repro", stage, output=log)
        state = work.root / "checkpoints" / "node" / "digits" / "epochs=20" / "7" / "state.safetensors"
        deadline = time.monotonic() + 300
        while not state.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(1)
        process.terminate()
        process.wait()
    assert state.exists()
    for name, old, new in [
        ("pipeline/run/progress.py", "mininterval=0.2", "mininterval=0.3"),
        ("pipeline/run/checkpoint.py", '_STATE = "state.safetensors"', '_STATE = "state.safetensors"  # a comment'),
        ("pipeline/studies/node/trainer.py", '"""One NODE classifier in training', '"""A classifier in training'),
        ("pipeline/ode/dopri5.py", "\n\n\n", "\n\n\n# A comment.\n"),
        ("specs/node/study.yaml", "title: NODE classifiers", "title: Another title"),
        ("specs/data.yaml", "title: digits", "title: Digits"),
    ]:
        edit(work, name, old, new)
    trained = ("baseline-0", "norm=batch-0", "position=mlp-0")
    assert not [stage for stage in find_costly(find_stale(work)) if stage.endswith(trained)]
    result = work.run("dvc", "repro", "--single-item", stage)
    said = result.stdout + result.stderr
    assert "left aside" not in said
    first = re.search(r"epochs=20:\s+\d+%\|[^|]*\|\s*(\d+)/", said)
    assert first is not None
    assert int(first[1]) > 0  # steps that were there already


def test_a_dataset_of_ones_own_images_makes_no_other_stale(work: Workspace):
    generator = np.random.default_rng(0)
    for label in ("bright", "dark"):
        (work.root / "images" / label).mkdir(parents=True)
        for index in range(40):
            pixels = generator.integers(0, 100, (9, 8), dtype=np.uint8) + (150 if label == "bright" else 0)
            Image.fromarray(pixels.astype(np.uint8)).save(work.root / "images" / label / f"{index}.png")
    data = work.read("specs/data.yaml")
    source = {"kind": "folder", "path": "images", "size": 8, "test_fraction": 0.25, "split_seed": 0, "sha256": None}
    data["datasets"]["mine"] = json.loads(json.dumps(data["datasets"]["digits"])) | {
        "title": "My images", "classes": 2, "train_images": 1, "test_images": 1, "source": source,
    }  # fmt: skip
    work.write("specs/data.yaml", data)
    spec = work.read("specs/node/study.yaml")
    spec["cases"]["mine"] = json.loads(json.dumps(spec["cases"]["digits"]))
    spec["cases"]["mine"]["training"]["batch_size"] = 30
    work.write("specs/node/study.yaml", spec)
    params = work.read("params.yaml")
    params["cases"]["node"].append("mine")
    params["node"]["mine"] = {"seeds": [0], "arms": ["baseline"], "more": {"seeds": [], "arms": []}}
    work.write("params.yaml", params)
    stanzas = "".join(
        f"  {step}_node_mine{more and '_more'}:\n    <<: *{step}_node\n"
        f'    matrix: {{ case: [mine], arm: "${{node.mine.{more}arms}}", seed: "${{node.mine.{more}seeds}}" }}\n\n'
        for step in ("train", "evaluate")
        for more in ("", "more.")
    )
    edit(work, "dvc.yaml", "  # ---- Study ddpm", stanzas + "  # ---- Study ddpm")
    assert {stage for stage in find_costly(find_stale(work)) if "mine" not in stage} == set()
    result = work.run("dvc", "repro", "evaluate_node_mine", ok=False)
    said = result.stdout + result.stderr
    found = re.search(r"source.sha256: ([0-9a-f]{64}).*train_images: (\d+).*test_images: (\d+)", said)
    assert found is not None, said
    data = work.read("specs/data.yaml")
    data["datasets"]["mine"]["source"]["sha256"] = found[1]
    data["datasets"]["mine"] |= {"train_images": int(found[2]), "test_images": int(found[3])}
    work.write("specs/data.yaml", data)
    ran = work.drive("evaluate_node_mine")
    assert {"train_node_mine@mine-baseline-0", "evaluate_node_mine@mine-baseline-0"} <= ran
    assert {stage for stage in find_costly(ran) if "mine" not in stage} == set()
    record = json.loads((work.root / "evaluations/node/mine/baseline/0.json").read_text())
    assert record["status"] == "completed"
    work.drive()
    assert "My images" in (work.root / "reports" / "table1.md").read_text()


def test_a_table_is_rendered_with_the_page_alone(work: Workspace):
    table = work.read("specs/node/tables/table1.yaml")
    table["title"] = "Table N: new"
    work.write("specs/node/tables/new.yaml", table)
    report = work.read("specs/report.yaml")
    report["tables"]["new"] = "node"
    report["order"].append("new")
    work.write("specs/report.yaml", report)
    assert work.drive() - {"strict"} == {"check", "render@new", "report"}


def test_a_spec_that_no_view_shows_is_refused(work: Workspace):
    (work.root / "specs/node/tables/new.yaml").write_bytes((work.root / "specs/node/tables/table1.yaml").read_bytes())
    result = work.run("dvc", "repro", ok=False)
    assert "tables: 'new' is not there" in result.stdout + result.stderr


def test_after_a_checkout_no_old_settings_are_run(work: Workspace):
    """The file of a resolved run is that of another commit until the check has run."""
    spec = work.read("specs/node/study.yaml")
    before = spec["cases"]["digits"]["training"]["learning_rate"]
    spec["cases"]["digits"]["training"]["learning_rate"] = 0.01
    work.write("specs/node/study.yaml", spec)
    stage = "train_node_digits@digits-baseline-0"
    result = work.run("dvc", "repro", "--force", "--single-item", stage, ok=False)
    assert result.returncode != 0
    assert "resolved/node/digits/baseline/0.json: not what params.yaml and specs/ say now" in result.stderr
    assert "run `dvc repro check`" in result.stderr
    ran = work.drive(stage)
    assert stage in ran
    commit_all(work)
    work.run("git", "checkout", "-q", "HEAD~1")
    ran = work.drive(stage)
    assert stage not in ran  # from the cache
    made = json.loads((work.root / "runs/node/digits/baseline/0/run.json").read_text())
    assert made["run"]["training"]["learning_rate"] == before
    work.run("git", "checkout", "-q", "-")
    assert stage not in work.drive(stage)
    made = json.loads((work.root / "runs/node/digits/baseline/0/run.json").read_text())
    assert made["run"]["training"]["learning_rate"] == 0.01


def test_an_experiment_changes_one_key_and_leaves_the_others_alone(work: Workspace):
    key = "specs/node/study.yaml:cases.digits.training.learning_rate=0.02"
    stage = "evaluate_node_digits@digits-baseline-0"
    work.run("dvc", "exp", "run", "-S", key, stage)
    record = json.loads((work.root / "evaluations/node/digits/baseline/0.json").read_text())
    assert record["settings"]["training.learning_rate"] == 0.02
    changed = work.run("dvc", "params", "diff").stdout
    assert "cases.digits.training.learning_rate" in changed
    shown = work.run("dvc", "exp", "show", "--csv", "--drop", "resolved.*").stdout
    assert "learning_rate" in shown.splitlines()[0]


def test_two_branches_that_trained_merge_and_train_nothing_again(work: Workspace):
    first = work.run("git", "branch", "--show-current").stdout.strip()
    for branch, arm in (("one", "groups=2"), ("two", "groups=1")):
        work.run("git", "checkout", "-q", "-b", branch, first)
        params = work.read("params.yaml")
        params["node"]["digits"]["arms"].append(arm)
        work.write("params.yaml", params)
        work.drive()
        commit_all(work)
    work.run("git", "merge", "-q", "one", ok=False)
    params = work.read("params.yaml") if "<<<<" not in (work.root / "params.yaml").read_text() else None
    if params is None:
        work.run("git", "checkout", "--theirs", "params.yaml")
        params = work.read("params.yaml")
    params["node"]["digits"]["arms"] = ["baseline", "norm=batch", "groups=2", "groups=1"]
    work.write("params.yaml", params)
    work.run("python", "-m", "pipeline", "recover")
    ran = work.drive()
    assert not [stage for stage in ran if stage.startswith(("train", "sample", "evaluate"))]
    table = (work.root / "reports" / "node_arms.md").read_text()
    assert "groups=1" in table
    assert "groups=2" in table
