"""What git keeps of the runs: curves over training, short metrics, and the ledger of what made them."""

import json
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from panels import ddpm_record, failure, make_panel, node_record
from trainings import COMPUTE, ddpm_run, node_run

from pipeline.metrics.arm_metrics import summarise_arm
from pipeline.report.costs import find_mixtures, render_costs, render_places, show_minutes
from pipeline.report.curves import draw_curves, read_points, subtract_baseline, thin
from pipeline.report.flops import Flops
from pipeline.run.live import LiveHistory
from pipeline.run.process import hash_output, write_provenance
from pipeline.schema.architecture import Part
from pipeline.schema.base import SpecError
from pipeline.schema.curve import Point, curve_path, list_points, read_curve, read_history, write_curve
from pipeline.schema.ledger import Entry, ledger_path, read_ledger, write_ledger
from pipeline.schema.ledger import make_entry as enter
from pipeline.schema.study import find_study
from pipeline.studies.ddpm import views as ddpm
from pipeline.studies.node import views as node

ACCURACY, LOSS, NFE, BACKWARD = find_study("node").curves
HISTORY: list[dict[str, float | int | None]] = [
    {"epoch": 1, "train_loss": 2.0, "test_accuracy": 50.0, "nfe_train": 20.0, "nfe_backward": None},
    {"epoch": 2, "train_loss": 0.1 + 0.2, "test_accuracy": 60.0, "nfe_train": 26.0, "nfe_backward": 32.0},
]
PROVENANCE: dict[str, Any] = {
    "output": "abc.dir", "seconds": 90.0, "device": "cpu", "gpu": None, "processor": "x86_64",
    "cpu": "y", "portable": True, "git": "0123",
    "compute": {"threads": 1, "precision": "float32"}, "packages": {"torch": "2.15.0"},
    "finished": "2026-01-01T00:00:00Z",
}  # fmt: skip


def make_entry(arm: str = "baseline", seed: int = 0, **fields: Any) -> Entry:
    return Entry.model_validate({"arm": arm, "seed": seed, "step": "train", "output": "abc.dir", **fields})


# ---- Curves ----------------------------------------------------------------------------------------------------------


def test_a_curve_is_read_as_it_was_written(tmp_path: Path):
    points = list_points(LOSS, "groups=1,channels=16", 3, HISTORY)
    assert [(point.at, point.value) for point in points] == [(1, 2.0), (2, 0.1 + 0.2)]
    path = curve_path(tmp_path, "node", "digits", LOSS)
    write_curve(path, LOSS, points)
    assert path.read_text().splitlines()[0] == "epoch\tloss\tarm\tseed"
    assert read_curve(path, LOSS) == points
    assert read_curve(tmp_path / "missing.tsv", LOSS) == []
    assert [point.at for point in list_points(BACKWARD, "baseline", 0, HISTORY)] == [2]  # no value, no point


@pytest.mark.parametrize(
    "text",
    [
        "epoch\tfid\tarm\tseed\n1\t2\ta\t0\n",
        "epoch\tloss\tarm\tseed\n1\tmuch\ta\t0\n",
        "",
        "epoch\tloss\tarm\tseed\n1\n",
    ],
)
def test_a_file_that_is_no_curve_is_named(tmp_path: Path, text: str):
    path = tmp_path / "loss.tsv"
    path.write_text(text)
    with pytest.raises(SpecError, match=r"loss\.tsv: (not a table of epoch, loss, arm, seed|row 1: )"):
        read_curve(path, LOSS)


def test_a_training_shows_itself_apart_from_all_outputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("pipeline.run.live._SECONDS", 0.0)
    live = LiveHistory(tmp_path, node_run(seed=3))
    for rows in (HISTORY[:1], HISTORY):  # epoch by epoch, and again from the first
        live(rows)
    path = tmp_path / "live" / "node" / "digits" / "baseline" / "3.tsv"
    assert [row["test_accuracy"] for row in read_history(path)] == [50.0, 60.0]
    assert [found.relative_to(tmp_path).parts[0] for found in tmp_path.rglob("*.tsv")] == ["live"]
    path.unlink()
    path.mkdir()  # nothing can be written there: the training goes on, and says so once
    live(HISTORY)
    live(HISTORY)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("the training goes on, but is not shown in ")
    monkeypatch.setattr("pipeline.run.live._SECONDS", 60.0)
    path.rmdir()
    LiveHistory(tmp_path, node_run(seed=3))(HISTORY)  # too soon
    assert not path.exists()
    live = LiveHistory(tmp_path, node_run(seed=3))
    live.shown = 0.0
    live(HISTORY)
    assert path.exists()
    live.close()
    assert not path.exists()


@pytest.mark.parametrize(("count", "kept"), [(1, 1), (50, 50), (51, 26), (1000, 50)])
def test_a_long_curve_is_thinned_and_keeps_its_end(count: int, kept: int):
    points = [Point("baseline", 0, step, 0.0) for step in range(1, count + 1)]
    thinned = thin(points)
    assert len(thinned) == kept
    assert thinned[-1] == points[-1]
    assert len({after.at - before.at for before, after in pairwise(thinned)}) <= 1


def test_the_page_draws_the_runs_of_the_panel_in_its_order(tmp_path: Path):
    panel = make_panel({"norm=batch": {0: node_record(90.0)}, "baseline": {0: node_record(91.0)}}, seeds=[0])
    path = curve_path(tmp_path, "node", "digits", LOSS)
    runs = [("baseline", 0), ("taken out", 0), ("norm=batch", 0), ("baseline", 7)]
    write_curve(path, LOSS, [Point(arm, seed, 1, 1.0) for arm, seed in runs])
    points = read_points(tmp_path, panel, LOSS)
    assert [(point.arm, point.seed) for point in points] == [("norm=batch", 0), ("baseline", 0)]


def test_curves_are_differences_from_the_baseline_of_the_same_seed_at_the_same_step():
    values = {
        ("baseline", 0, 1): 5.0, ("baseline", 0, 2): 4.0, ("baseline", 1, 1): 3.0, ("norm=batch", 0, 1): 4.5,
        ("norm=batch", 0, 2): 6.0, ("norm=batch", 1, 1): 3.25, ("norm=batch", 1, 2): 1.0, ("norm=batch", 7, 1): 9.0,
    }  # fmt: skip
    found = subtract_baseline([Point(*place, value) for place, value in values.items()])
    assert [(point.arm, point.seed, point.at, point.value) for point in found] == [
        ("norm=batch", 0, 1, -0.5), ("norm=batch", 0, 2, 2.0), ("norm=batch", 1, 1, 0.25),
    ]  # fmt: skip
    chart = draw_curves(found, LOSS)
    assert chart is not None
    assert chart["data"]["values"] == [
        {"arm": "norm=batch", "seed": 0, "at": [1, 2], "value": [-0.5, 2.0]},
        {"arm": "norm=batch", "seed": 1, "at": [1], "value": [0.25]},
    ]
    assert subtract_baseline([point for point in found if point.arm != "baseline"]) == []
    assert draw_curves([], LOSS) is None


# ---- Metrics ---------------------------------------------------------------------------------------------------------


def test_an_arm_has_a_few_numbers_with_short_names():
    records = [node_record(90.0, nfe=20.0), node_record(92.0, nfe=26.0), failure()]
    assert summarise_arm(["accuracy", "nfe"], records) == {"accuracy": 91.0, "nfe": 23.0, "failed": 1}
    assert summarise_arm(["accuracy", "nfe"], [node_record(90.0, nfe=None)]) == {"accuracy": 90.0}
    assert summarise_arm(["fid", "inception_score"], [ddpm_record(3.0)]) == {"fid": 3.0, "inception_score": 9.7}
    assert summarise_arm(["fid", "inception_score"], [failure()]) == {"failed": 1}


# ---- Ledger ----------------------------------------------------------------------------------------------------------


def test_an_output_is_known_by_dvcs_hash_of_it(tmp_path: Path):
    (tmp_path / "out" / "b").mkdir(parents=True)
    (tmp_path / "out" / "b" / "é.txt").write_text("2")
    (tmp_path / "out" / "a").write_text("1")
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"], ["dvc", "add", "-q", "out", "params"]):
        (tmp_path / "params").write_text("x")
        subprocess.run(command, cwd=tmp_path, check=True)
    for name in ("out", "params"):
        assert f"md5: {hash_output(tmp_path / name)}\n" in (tmp_path / f"{name}.dvc").read_text()


def test_the_revision_is_dirty_by_code_not_by_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for folder in ("pipeline", "records"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "file").write_text("1")
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-qm", "test"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)

    def describe() -> str:
        write_provenance("run", tmp_path / "pipeline", COMPUTE, device="cpu")
        return json.loads((tmp_path / "provenance" / "run.json").read_text())["git"]

    revision = describe()
    assert len(revision) == 12
    (tmp_path / "records" / "file").write_text("2")
    assert describe() == revision
    (tmp_path / "pipeline" / "file").write_text("2")
    assert describe() == f"{revision}-dirty"


def test_an_entry_stays_while_its_output_does(tmp_path: Path):
    provenance = tmp_path / "0.json"
    provenance.write_text(json.dumps(PROVENANCE))
    first = enter("baseline", 0, "train", "abc.dir", provenance, [])
    assert (first.seconds, first.device, first.workers, first.torch) == (90.0, "cpu, x86_64", 1, "2.15.0")
    assert (first.cpu, first.portable) == ("y", True)
    provenance.write_text(json.dumps(PROVENANCE | {"seconds": 45.0}))
    assert enter("baseline", 0, "train", "abc.dir", provenance, [first]) == first
    # Other bytes are other work; what the provenance does not speak of is not known.
    new = PROVENANCE | {"output": "new.dir", "device": "cuda", "gpu": "H200", "workers": 8}
    provenance.write_text(json.dumps(new))
    second = enter("baseline", 0, "train", "new.dir", provenance, [first])
    assert (second.device, second.workers, second.portable) == ("H200", 8, None)
    for impossible in (-5.0, "soon", None):  # costs itself alone
        provenance.write_text(json.dumps(PROVENANCE | {"seconds": impossible}))
        without = enter("baseline", 0, "train", "abc.dir", provenance, [])
        assert without == first.model_copy(update={"seconds": None})
    provenance.write_text(json.dumps(new))
    unknown = enter("baseline", 0, "train", "abc.dir", provenance, [])
    assert unknown == make_entry()
    for damaged in ("{", "[]"):
        provenance.write_text(damaged)
        assert enter("baseline", 0, "train", "abc.dir", provenance, []) == unknown


def test_a_ledger_is_read_as_it_was_written(tmp_path: Path):
    path = ledger_path(tmp_path, "node", "digits")
    entries = [make_entry(seconds=1.5, device="GPU\twith a tab", workers=2), make_entry("groups=1", 1)]
    write_ledger(path, entries)
    assert read_ledger(path) == entries
    write_ledger(path, (entry for entry in read_ledger(path)))  # what is written may come from the file itself
    assert read_ledger(path) == entries
    assert read_ledger(tmp_path / "missing.tsv") == []
    path.write_text(path.read_text().replace("1.5", "soon"))
    with pytest.raises(SpecError, match=r"digits\.tsv: row 1: could not convert string to float: 'soon'"):
        read_ledger(path)


def test_a_file_with_gits_conflict_markers_says_who_mends_it(tmp_path: Path):
    path = ledger_path(tmp_path, "node", "digits")
    write_ledger(path, [make_entry()])
    header, row = path.read_text().splitlines()
    path.write_text(f"{header}\n<<<<<<< HEAD\n{row}\n=======\n{row}\n>>>>>>> other\n")
    with pytest.raises(
        SpecError, match=r"digits\.tsv: line 2: a merge that git left open; .*python -m pipeline recover"
    ):
        read_ledger(path)


def test_a_ledger_of_the_version_before_is_read(tmp_path: Path):
    path = ledger_path(tmp_path, "node", "digits")
    entry = make_entry(device="cpu, x", threads=1, cpu="y", portable=False)
    write_ledger(path, [entry])
    lines = [line.split("\t") for line in path.read_text().splitlines()]
    kept = [index for index, name in enumerate(lines[0]) if name not in ("cpu", "portable")]
    path.write_text("".join("\t".join(line[index] for index in kept) + "\n" for line in lines))
    assert read_ledger(path) == [entry.model_copy(update={"cpu": None, "portable": None})]


def test_cpus_are_mixed_unless_every_run_was_portable():
    def mix(*facts: tuple[str | None, bool | None]) -> list[str]:
        entries = [
            make_entry(seed=seed, device="cpu, AMD EPYC", cpu=cpu, portable=portable)
            for seed, (cpu, portable) in enumerate(facts)
        ]
        return find_mixtures({("node", "digits", "baseline", entry.seed): [entry] for entry in entries})

    start = "**Mixed:** runs of node, digits, were not made with the same device: "
    assert mix(("AMD 25/1/1", True), ("AMD 26/2/1", True)) == []
    assert mix(("AMD 25/1/1", False), ("AMD 25/1/1", False)) == []
    assert mix(("AMD 25/1/1", False), ("AMD 26/2/1", False)) == [
        f"{start}cpu, AMD EPYC (AMD 25/1/1); cpu, AMD EPYC (AMD 26/2/1)."
    ]
    assert mix(("AMD 25/1/1", True), ("AMD 25/1/1", False)) == [f"{start}cpu, AMD EPYC (AMD 25/1/1); cpu, portable."]
    assert mix(("AMD 25/1/1", True), (None, None)) == [f"{start}cpu, AMD EPYC; cpu, portable."]


def test_the_page_says_what_an_arm_cost_and_what_is_not_known():
    panel = make_panel({"baseline": {0: node_record(90.0), 1: node_record(91.0)}, "groups=1": {0: node_record(90.0)}})
    books = {
        ("node", "digits", "baseline", 0): [make_entry(seconds=30.0, device="cpu <b>")],
        ("node", "digits", "baseline", 1): [make_entry(seed=1, seconds=90.0, device="H200")],
        ("node", "digits", "groups=1", 0): [make_entry("groups=1")],
    }
    flops: Flops = {("node", "digits", "baseline", seed, "train"): 1e12 + seed * 1e12 for seed in (0, 1)}
    text = render_costs(panel, books, flops)
    assert [cell.strip() for cell in text.splitlines()[2].split("|")[1:5]] == [
        "`baseline`",
        "H200, cpu &lt;b&gt;",
        "1.5",
        "1",
    ]
    assert [cell.strip() for cell in text.splitlines()[3].split("|")[1:5]] == ["`groups=1`", "—", "—", "—"]
    assert find_mixtures(books) == [
        "**Mixed:** runs of node, digits, were not made with the same device: H200; cpu &lt;b&gt;."
    ]
    assert "| H200 " in render_places(books)
    assert find_mixtures({key: found for key, found in books.items() if key[3] == 0}) == []


@pytest.mark.parametrize(("seconds", "shown"), [(3.0, "0.05"), (90, "1.5"), (60 * 12.4, "12"), (60 * 1234, "1234")])
def test_minutes_have_two_digits_or_more(seconds: float, shown: str):
    assert show_minutes(seconds) == shown


# ---- FLOPs -----------------------------------------------------------------------------------------------------------


def make_part(name: str, flops: int, call: int = 0) -> Part:
    return Part.model_validate({"name": name, "params": 1, "flops_image": flops, "flops_call": call})


@pytest.mark.parametrize(
    ("gradient", "flops"),
    [
        ("direct", 3 * 2 * (100 + 10) * 40 + 3 * (20 + 26) * (7 * 40 + 2 * 3)),
        ("adjoint", 3 * 2 * (100 + 10) * 40 + (20 + 26 + 3 * (32 + 38)) * (7 * 40 + 2 * 3)),
    ],
)
def test_the_flops_of_a_node_training_by_hand(gradient: str, flops: int):
    """Two epochs of 40 images in three batches, the last of 8: stem and head once, the ODE function NFE times."""
    run = node_run(epochs=2, batch_size=16)
    run = run.model_copy(update={"network": run.network.model_copy(update={"gradient": gradient})})
    parts = [make_part("stem", 100), make_part("field", 7, call=2), make_part("head", 10)]
    assert node.count_training(run, parts, 40, [20.0, 26.0], [32.0, 38.0]) == flops
    assert node.count_training(run, [parts[0], parts[2]], 40, [], []) == 3 * 2 * 110 * 40  # without an ODE block


def test_the_flops_of_a_diffusion_model_by_hand():
    unet = [make_part("unet", 1000)]
    assert ddpm.count_training(ddpm_run(steps=5, batch_size=8), unet) == 3 * 5 * 8 * 1000
    record = ddpm_record(1.0, 2.0, protocol={"images": 500, "sampling_steps": 50})  # two sets, one earlier snapshot
    assert ddpm.count_sampling(unet, record, 250) == 3 * 500 * 50 * 1000
