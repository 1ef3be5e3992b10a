"""NODE trainings that are killed or told to end at any moment: they go on and end with the same bytes."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import torch
from safetensors import safe_open
from trainings import COMPUTE, digest, node_run, stripes, train_node_run
from workspace import ROOT, Workspace, commit_all, make_reduced

from pipeline.run.process import _find_dvc
from pipeline.studies.node.study import NodeRun
from pipeline.studies.node.trainer import NodeTrainer

STEPS = 6  # an epoch: 90 images in batches of 16
TEST_BATCHES = 3


class KilledError(Exception):
    """The process ends here."""


def with_network(run: NodeRun, **fields: object) -> NodeRun:
    return run.model_copy(update={"network": run.network.model_copy(update=fields)})


RUNS = {
    "cosine": node_run(epochs=3),
    "adjoint": with_network(node_run(epochs=3), gradient="adjoint"),
    "plateau": node_run(epochs=3, schedule="plateau", patience=0),
    "buffers": with_network(node_run(epochs=3), norm="batch", batch_statistics="running"),
    "random": with_network(
        node_run(epochs=3, crop_padding=2, flip=True, hue=0.05, saturation=0.05, mean=[0.4] * 3, std=[0.3] * 3),
        dropout=0.5,
    ),
}


def kill_at(monkeypatch: pytest.MonkeyPatch, name: str, call: int) -> list[int]:
    """Let the trainer die in the middle of a call of a method, counted from 0; returns the list of steps begun."""
    method, calls, steps = getattr(NodeTrainer, name), [], []

    def killed(self: NodeTrainer, *arguments: object) -> object:
        if name == "step":
            steps.append(arguments[0])
        if len(calls) == call:
            raise KilledError
        calls.append(arguments)
        return method(self, *arguments)

    monkeypatch.setattr(NodeTrainer, name, killed)
    return steps


@pytest.mark.slow
@pytest.mark.parametrize("name", list(RUNS))
def test_a_killed_training_ends_with_the_same_bytes(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Within an epoch, at its border, in a pass over the test split, and in the last step."""
    assert train_node_run(RUNS[name], tmp_path / "unbroken") is None
    left = 3 * STEPS
    for method, call in (("step", 2), ("step", 4), ("predict", 1), ("step", STEPS), ("step", 3), ("predict", 0)):
        with monkeypatch.context() as patch:
            steps = kill_at(patch, method, call)
            with pytest.raises(KilledError):
                train_node_run(RUNS[name], tmp_path / "broken", minutes=0)
        if method == "step":
            assert steps == list(range(3 * STEPS - left, 3 * STEPS - left + call + 1))  # nothing is trained twice
            left -= call
    with monkeypatch.context() as patch:
        steps = kill_at(patch, "step", -1)
        train_node_run(RUNS[name], tmp_path / "broken", minutes=0)
    assert digest(tmp_path / "broken") == digest(tmp_path / "unbroken")
    assert not (tmp_path / "broken.checkpoint").exists()


@pytest.mark.slow
def test_a_kill_between_saves_costs_the_steps_since(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = RUNS["plateau"]
    train_node_run(run, tmp_path / "unbroken")
    with monkeypatch.context() as patch:
        kill_at(patch, "step", 8)
        with pytest.raises(KilledError):
            train_node_run(run, tmp_path / "broken")
    assert not (tmp_path / "broken.checkpoint" / "state.safetensors").exists()  # five minutes have not passed
    train_node_run(run, tmp_path / "broken")
    assert digest(tmp_path / "broken") == digest(tmp_path / "unbroken")


@pytest.mark.slow
def test_a_training_that_fails_after_an_interruption_fails_in_the_same_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = node_run(epochs=3, learning_rate=300.0)
    reason = train_node_run(run, tmp_path / "unbroken")
    assert reason is not None
    with monkeypatch.context() as patch:
        kill_at(patch, "step", json.loads((tmp_path / "unbroken" / "failure.json").read_text())["step"] // 2)
        with pytest.raises(KilledError):
            train_node_run(run, tmp_path / "broken", minutes=0)
    assert train_node_run(run, tmp_path / "broken", minutes=0) == reason
    assert digest(tmp_path / "broken") == digest(tmp_path / "unbroken")


def test_random_numbers_depend_on_the_step_alone():
    """Two steps are the same whatever came before them: so a state holds no random state."""
    run = RUNS["random"]
    train, losses = stripes(90, 14, 3), []
    for consumed in (0, 7):
        trainer = NodeTrainer(run, train, COMPUTE, "cpu")
        tally, batch = trainer.begin_epoch(), next(trainer.order(2))
        torch.rand(consumed)
        trainer.step(7, batch, tally)
        losses.append(tally.loss.item())
    trainer = NodeTrainer(run, train, COMPUTE, "cpu")
    tally = trainer.begin_epoch()
    trainer.step(8, next(trainer.order(2)), tally)
    assert losses[0] == losses[1] != tally.loss.item()


# ---- Real processes --------------------------------------------------------------------------------------------

REPRO = ["repro", "--force", "--single-item", "train_node_digits@digits-baseline-0"]
LENGTH = 12 * 15
COMMAND = [sys.executable, "-m", "stages.train_node", "digits", "baseline", "0"]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with data and a NODE training of some seconds."""
    workspace = make_reduced(tmp_path_factory.mktemp("interruption") / "project")
    node = workspace.read("specs/node/study.yaml")
    node["cases"]["digits"]["training"] |= {"epochs": LENGTH // 15, "batch_size": 96}
    workspace.write("specs/node/study.yaml", node)
    commit_all(workspace)
    workspace.run("dvc", "repro", "fetch_node@node-digits")
    return workspace


@pytest.fixture(scope="module")
def unbroken(work: Workspace) -> dict[str, str]:
    """Digests of what an undisturbed training writes."""
    work.run(*COMMAND)
    expected = digest(out(work))
    shutil.rmtree(out(work))
    return expected


def out(work: Workspace) -> Path:
    return work.root / "runs/node/digits/baseline/0"


def state(work: Workspace) -> Path:
    return work.root / "checkpoints/node/digits/baseline/0/state.safetensors"


def read_step(work: Workspace) -> int:
    with safe_open(state(work), framework="pt") as file:
        return int(json.loads(file.metadata()["content"])["step"])


def save_often(work: Workspace, minutes: float) -> None:
    params = work.read("params.yaml")
    params["resources"]["checkpoint_minutes"] = minutes
    work.write("params.yaml", params)


def wait_for(condition: object, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.ci
def test_a_process_that_is_killed_or_told_to_end_at_random_goes_on(work: Workspace, unbroken: dict[str, str]):
    save_often(work, 0)
    chance, reached = random.Random(0), [0]  # noqa: S311
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
        before = state(work).stat().st_mtime_ns if state(work).exists() else 0
        process = subprocess.Popen(COMMAND, cwd=work.root, stderr=subprocess.DEVNULL)
        wait_for(lambda before=before: state(work).exists() and state(work).stat().st_mtime_ns != before)
        time.sleep(chance.uniform(0, 0.4))
        assert process.poll() is None, "it ended by itself"
        process.send_signal(number)
        assert process.wait() == (-number if number == signal.SIGKILL else 128 + number)
        assert not out(work).exists()
        reached.append(read_step(work))
    assert reached == sorted(reached)  # the same twice: both times in a pass over the test split
    assert 0 < reached[1] < reached[-1] < LENGTH
    save_often(work, 5)
    work.run(*COMMAND)
    assert digest(out(work)) == unbroken
    assert not state(work).parent.exists()
    shutil.rmtree(out(work))


@contextmanager
def dvc_at_work(work: Workspace, log: Path, shell: str = "/bin/sh") -> Iterator[psutil.Popen]:
    """`dvc repro` of the training, in which it has begun to take steps."""
    environment = {**os.environ, "SHELL": shell, "DVC_SITE_CACHE_DIR": str(work.root.parent / "home")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with log.open("w") as file:
        dvc = psutil.Popen(["dvc", *REPRO], cwd=work.root, env=environment, stdout=file, stderr=file)
    wait_for(lambda: f"node baseline:   0%|          | 0/{LENGTH}" in log.read_text() or dvc.poll() is not None)
    yield dvc


def find_first_step(output: str) -> int:
    """Where the training went on."""
    first = re.search(rf"node baseline: .* (\d+)/{LENGTH} ", output)
    assert first is not None
    return int(first[1])


@pytest.mark.ci
@pytest.mark.parametrize("shell", ["/bin/sh", shutil.which("bash") or "/bin/sh"])  # one may wait, one become the stage
def test_when_dvc_is_killed_its_stage_saves_and_ends_and_the_next_run_goes_on(
    shell: str, work: Workspace, unbroken: dict[str, str], tmp_path: Path
):
    save_often(work, 5)  # nothing is due: what is saved is saved because DVC died
    with dvc_at_work(work, tmp_path / "log", shell) as dvc:
        time.sleep(0.5)
        below = dvc.children(recursive=True)
        dvc.kill()
        dvc.wait()
    _, alive = psutil.wait_procs(below, timeout=30)
    assert not alive
    assert not out(work).exists()
    assert 0 < read_step(work) < LENGTH
    assert find_first_step(work.run("dvc", *REPRO).stderr) > 0
    assert digest(out(work)) == unbroken
    shutil.rmtree(out(work))


def test_a_stage_looks_for_dvc_past_the_shell_between():
    ask = f"{sys.executable} -c 'from pipeline.run.process import _find_dvc; print(_find_dvc().pid)'; true"
    found = subprocess.run(["/bin/sh", "-c", ask], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert int(found) == os.getpid()


@dataclass
class Ancestor:
    """A process above a stage."""

    pid: int
    program: str
    arguments: str = ""

    def name(self) -> str:
        return self.program

    def cmdline(self) -> list[str]:
        return self.arguments.split()


INIT, SHELL, DVC = Ancestor(1, "init"), Ancestor(7, "sh"), Ancestor(6, "python", "python bin/dvc repro")
FIRST = Ancestor(1, "python", "python bin/dvc repro")


@pytest.mark.parametrize(
    ("above", "found"),
    [
        ([SHELL, DVC, INIT], DVC),
        ([DVC, SHELL, INIT], DVC),
        ([SHELL, FIRST], FIRST),  # in a container without an init
        ([SHELL, INIT], None),
        ([INIT], None),
        ([SHELL, Ancestor(900, "systemd"), INIT], None),  # which adopts a user's orphans
        ([SHELL], None),
    ],
)
def test_an_orphan_knows_that_it_is_one(above: list[Ancestor], found: Ancestor | None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("PIPELINE_DVC_PID", raising=False)
    monkeypatch.setattr(psutil.Process, "parents", lambda _: above)
    assert _find_dvc() is found


@pytest.mark.ci
def test_a_stage_whose_dvc_has_ended_does_not_begin(work: Workspace):
    ended = subprocess.Popen(["true"])
    ended.wait()
    environment = {"DVC_STAGE": "train", "PIPELINE_DVC_PID": str(ended.pid)}  # as torchrun hands it on
    result = work.run(*COMMAND, ok=False, **environment)
    assert (result.returncode, result.stderr) == (1, "error: DVC, which started this stage, has ended\n")


def edit(work: Workspace, file: str, old: str, new: str) -> None:
    path = work.root / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))


NUMERICS = "pipeline/studies/node/trace.py"


@pytest.mark.ci
def test_code_that_was_edited_since_the_check_is_not_run(work: Workspace):
    edit(work, NUMERICS, "4, 10, 2", "4, 10, 3")
    result = work.run("dvc", *REPRO, ok=False)
    edit(work, NUMERICS, "4, 10, 3", "4, 10, 2")
    assert result.returncode != 0
    assert f"error: {NUMERICS}: changed since closures/train_node.txt was written" in result.stderr


@pytest.mark.ci
@pytest.mark.parametrize(
    ("file", "old", "new"),
    [(NUMERICS, "4, 10, 2", "4, 10, 3"), ("specs/node/study.yaml", "learning_rate: 0.08", "learning_rate: 0.09")],
)
def test_what_is_edited_during_a_run_is_not_recorded_as_what_made_it(
    file: str, old: str, new: str, work: Workspace, unbroken: dict[str, str], tmp_path: Path
):
    save_often(work, 0)
    log, lock = tmp_path / "log", (work.root / "dvc.lock").read_bytes()
    with dvc_at_work(work, log) as dvc:
        edit(work, file, old, new)
        assert dvc.wait() != 0
    assert (work.root / "dvc.lock").read_bytes() == lock
    assert not out(work).exists()
    refused = [line for line in log.read_text().splitlines() if line.startswith("error: ")]
    assert [line for line in refused if "changed while this ran" in line and file.split("/")[0] in line]
    assert "Traceback" not in log.read_text()
    edit(work, file, new, old)
    save_often(work, 5)
    with dvc_at_work(work, log) as dvc:  # settings of others may be edited at any time
        edit(work, "params.yaml", "- norm=batch", "- groups=2")
        edit(work, "specs/node/study.yaml", "epochs: 250", "epochs: 251")
        assert dvc.wait() == 0, log.read_text()
    assert find_first_step(log.read_text()) > 0
    assert digest(out(work)) == unbroken
    assert "up to date" in work.run("dvc", "status", REPRO[-1]).stdout
    edit(work, "params.yaml", "- groups=2", "- norm=batch")
    edit(work, "specs/node/study.yaml", "epochs: 251", "epochs: 250")
    shutil.rmtree(out(work))
