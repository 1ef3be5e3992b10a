"""`pipeline run --ray` and `--slurm`: what `dvc repro` does, with stages on other machines, of which some are lost.

Ray: two nodes on this machine, each with one CPU. Slurm: where one works already.
"""

import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from quick_stages import JOB, finish, forget, is_gone, list_ran, make_last, make_project, start, wait, wait_for
from workspace import Workspace

from pipeline.run.remote import RemoteStage, check_folder

STAGES = {"train_a": [], "train_b": [], "train_c": ["train_a"], "record_d": ["train_b", "train_c"]}
SAVES = """
import signal, sys, time

signal.signal(signal.SIGTERM, lambda *_: (print("saved", flush=True), sys.exit(143)))
print("begins", flush=True)
time.sleep(60)
"""
ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="no Ray here: pip install '.[cluster]'")


def has_slurm() -> bool:
    if importlib.util.find_spec("submitit") is None:
        return False
    try:
        return bool(subprocess.run(["sinfo", "-h"], capture_output=True, check=True, timeout=20).stdout)
    except (OSError, subprocess.SubprocessError):
        return False


slurm = pytest.mark.skipif(not has_slurm(), reason="no Slurm answers here")


# ---- A stage and its guard -------------------------------------------------------------------------------------------


def make_stage(root: Path, command: str) -> RemoteStage:
    (root / "mark.txt").write_text("ours")
    return RemoteStage(root, "train_a", command, root / "log.txt", root / "mark.txt", "ours", False, signal.SIGINT)


CALL = """
import os, sys
sys.path.insert(0, {code!r})
os.environ["PYTHONPATH"] = {code!r}
from pathlib import Path
from test_cluster import make_stage
print(make_stage(Path({root!r}), "python -m job")())
"""


@contextmanager
def calling(root: Path) -> Iterator["tuple[subprocess.Popen[str], int]"]:
    """Context manager: a process that runs a stage, and the stage's own."""
    code = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1])])
    (root / "job.py").write_text(SAVES)
    call = CALL.replace("sys.path.insert(0, {code!r})", "sys.path[:0] = {code!r}.split(os.pathsep)")
    words = [sys.executable, "-c", call.format(code=code, root=str(root))]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as caller:
        log = root / "log.txt"
        wait(lambda: log.exists() and "begins" in log.read_text())
        below = psutil.Process(caller.pid).children(recursive=True)
        (stage,) = [process.pid for process in below if process.cmdline()[1:] == ["-m", "job"]]
        yield caller, stage


@pytest.mark.slow
def test_asked_to_end_the_caller_asks_the_stage(tmp_path: Path):
    with calling(tmp_path) as (caller, _):
        caller.send_signal(signal.SIGINT)
        assert caller.communicate(timeout=30)[0] == "143\n"
    assert (tmp_path / "log.txt").read_text() == "begins\nsaved\n"


@pytest.mark.slow
@pytest.mark.parametrize("killed", ["caller", "guard"])
def test_a_stage_ends_with_what_started_it(tmp_path: Path, killed: str):
    with calling(tmp_path) as (caller, stage):
        guard = psutil.Process(stage).parent()
        assert guard is not None and guard.pid != caller.pid
        os.kill(stage, signal.SIGSTOP)  # one that would not listen
        os.kill({"caller": caller.pid, "guard": guard.pid}[killed], signal.SIGKILL)
        wait(lambda: is_gone(stage), 10)


def test_a_machine_that_sees_another_copy_of_the_project_is_named(tmp_path: Path):
    with pytest.raises(OSError, match=f"{socket.gethostname()} does not see the project's folder"):
        check_folder(tmp_path, tmp_path / "mark.txt", "ours")
    stage = make_stage(tmp_path, "true")
    (tmp_path / "mark.txt").write_text("another's")
    with pytest.raises(OSError, match="all machines must share it"):
        stage()


# ---- Clusters --------------------------------------------------------------------------------------------------------


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    return make_project(tmp_path / "project", STAGES)


@pytest.mark.slow
def test_without_the_extra_a_line_says_what_to_install(work: Workspace):
    for name in ("ray", "submitit"):
        (work.root / f"{name}.py").write_text("raise ImportError")
    for options in (["--ray", "auto"], ["--slurm"]):
        said = work.run(sys.executable, "-m", "pipeline", "run", *options, ok=False)
        assert said.returncode == 1
        assert said.stderr.count("\n") == 1
        assert "pip install '.[cluster]'" in said.stderr


class Nodes:
    """A Ray cluster of this machine's: a head node and others. Its ports are open, so that it takes a token."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.folder = Path(tempfile.mkdtemp(prefix="r"))  # a short name, as sockets lie in it
        self.processes: list[subprocess.Popen[bytes]] = []

    def add(self, tries: int = 3) -> None:
        """Start a node; again, if a busy machine took longer than the 30 s that Ray gives its own parts."""
        port = self.address.split(":")[1]
        first = not self.processes
        words = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus", "1"]
        words += ["--object-store-memory", "80000000", "--disable-usage-stats"]
        words += (
            ["--head", "--port", port, "--include-dashboard", "false", "--temp-dir", str(self.folder)]
            if first
            else ["--address", self.address]
        )
        said = self.folder / f"node{len(self.processes)}.txt"
        with said.open("wb") as output:
            self.processes.append(subprocess.Popen(words, stdout=output, stderr=output, start_new_session=True))
        wait(lambda: self.processes[-1].poll() is not None or b"Ray runtime started" in said.read_bytes(), 180)
        if self.processes[-1].poll() is not None:
            assert tries > 1, said.read_text()
            self.processes.pop()
            self.add(tries - 1)

    def kill_last(self) -> int:
        """Kill the raylet of the node that came last; its pid."""
        below = psutil.Process(self.processes[-1].pid).children()
        (raylet,) = [process.pid for process in below if process.name() == "raylet"]
        os.kill(raylet, signal.SIGKILL)
        return raylet

    def close(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        found = Nodes()
        try:
            found.add()
            found.add()
            yield found
        finally:
            found.close()


@ray
@pytest.mark.ci
def test_ray_the_lock_is_that_of_dvc_repro(work: Workspace, nodes: Nodes):
    work.run("dvc", "repro")
    serial = work.read("dvc.lock")
    forget(work)
    (work.root / "job.py").write_text(JOB + "print('Ray:', 'RAY_JOB_ID' in os.environ)\n")
    finish(start(work, "--slots", "1", "--ray", nodes.address), work, 0)
    assert work.read("dvc.lock") == serial
    logs = {name: (work.root / "logs" / f"{name}.txt").read_text().splitlines() for name in STAGES}
    assert {name: lines[-1] for name, lines in logs.items()} == {
        name: f"Ray: {name.startswith('train')}" for name in STAGES
    }
    assert logs["train_a"][0] == "train_a begins"


@ray
@pytest.mark.ci
def test_ray_without_its_token_a_line_says_so(work: Workspace, nodes: Nodes, monkeypatch: pytest.MonkeyPatch):
    for name, value in (("RAY_AUTH_TOKEN", None), ("RAY_AUTH_TOKEN", "0" * 64), ("RAY_AUTH_MODE", None)):
        with monkeypatch.context() as patch:
            patch.delenv(name) if value is None else patch.setenv(name, value)
            said = finish(start(work, "--slots", "1", "--ray", nodes.address), work, 1)
        assert said.count("\n") == 1, said
        assert "token" in said


@ray
@pytest.mark.ci
def test_ray_a_failing_stage_is_named_and_the_others_go_on(work: Workspace, nodes: Nodes):
    (work.root / "fail").write_text("train_b")
    said = finish(start(work, "--slots", "1", "--ray", nodes.address), work, 1)
    assert "failed: train_b (status 3, logs/train_b.txt): error: it was asked to" in said
    assert sorted(list_ran(work)) == ["train_a", "train_c"]
    assert "2 made, 1 failed, 1 blocked" in said


@ray
@pytest.mark.ci
def test_ray_asked_to_end_stages_save_their_states(work: Workspace, nodes: Nodes):
    (work.root / "job.py").write_text(JOB.replace("time.sleep(", SAVES.replace("60", "0") + "time.sleep("))
    make_last(work, 60)
    running = start(work, "--slots", "1", "--ray", nodes.address)
    jobs = wait_for(work, "train_a", "train_b")
    running.terminate()
    finish(running, work, 130)
    assert all(map(is_gone, jobs))
    for name in ("train_a", "train_b"):
        assert (work.root / "logs" / f"{name}.txt").read_text().endswith("saved\n")


@ray
@pytest.mark.ci
def test_ray_killed_the_driver_takes_its_stages_along(work: Workspace, nodes: Nodes):
    make_last(work, 60)
    running = start(work, "--slots", "1", "--ray", nodes.address)
    jobs = wait_for(work, "train_a", "train_b")
    running.kill()
    running.wait()
    wait(lambda: all(map(is_gone, jobs)), 30)
    assert not (work.root / "dvc.lock").exists()
    make_last(work, 0.1)
    finish(start(work, "--slots", "1", "--ray", nodes.address), work, 0)
    assert sorted(list_ran(work)) == sorted(STAGES)


@ray
@pytest.mark.ci
def test_ray_a_lost_node_s_stage_runs_again_elsewhere(work: Workspace, nodes: Nodes):
    """The last one of Ray's, as it leaves one node."""
    make_last(work, 4)
    running = start(work, "--slots", "1", "--ray", nodes.address)
    jobs = wait_for(work, "train_a", "train_b")
    raylet = nodes.kill_last()
    wait(lambda: any(map(is_gone, jobs)), 30)
    assert is_gone(raylet)
    finish(running, work, 0)
    assert sorted(list_ran(work)) == sorted(STAGES)
    begun = [(work.root / "logs" / f"{name}.txt").read_text().count("begins") for name in ("train_a", "train_b")]
    assert sorted(begun) == [1, 2]
    assert "up to date" in work.run("dvc", "status").stdout


def list_jobs() -> list[str]:
    return subprocess.run(["squeue", "--me", "-ho", "%A"], capture_output=True, text=True, check=True).stdout.split()


@slurm
@pytest.mark.ci
def test_slurm_the_lock_is_that_of_dvc_repro_also_after_the_time_limit(work: Workspace):
    work.run("dvc", "repro")
    serial = work.read("dvc.lock")
    forget(work)
    (work.root / "job.py").write_text(JOB.replace("time.sleep(", "time.sleep(not Path(name).exists() and 60 or "))
    make_last(work, 0.1)
    (work.root / "train_b").touch()
    running = start(work, "--slots", "1", "--slurm", "--slurm-options", "time=10")
    (job,) = wait_for(work, "train_a")
    (work.root / "train_a").touch()
    (work.root / "train_c").touch()
    (work.root / "record_d").touch()
    subprocess.run(
        ["scancel", "--signal=USR2", min(list_jobs(), key=int)], check=True
    )  # as Slurm does before the limit
    wait(lambda: is_gone(job), 30)
    finish(running, work, 0)
    assert (work.root / "logs" / "train_a.txt").read_text().count("begins") == 2
    assert work.read("dvc.lock") == serial
    assert not (work.root / "logs" / "slurm").exists()


@slurm
@pytest.mark.ci
def test_slurm_a_failing_stage_is_named_and_a_lost_job_too(work: Workspace):
    (work.root / "fail").write_text("train_b")
    said = finish(start(work, "--slots", "1", "--slurm"), work, 1)
    assert "failed: train_b (status 3, logs/train_b.txt): error: it was asked to" in said
    assert sorted(list_ran(work)) == ["train_a", "train_c"]
    said = finish(start(work, "--slots", "1", "--slurm", "--slurm-options", "partition=nix"), work, 1)
    assert "invalid partition specified: nix" in said


@slurm
@pytest.mark.ci
def test_slurm_what_a_killed_driver_left_is_ended_by_the_next_run(work: Workspace):
    make_last(work, 60)
    running = start(work, "--slots", "1", "--slurm")
    (job,) = wait_for(work, "train_a")
    running.kill()
    running.wait()
    assert not is_gone(job)
    make_last(work, 0.1)
    finish(start(work), work, 0)
    assert is_gone(job)
    assert not list_jobs()
    assert sorted(list_ran(work)) == sorted(STAGES)


@slurm
@pytest.mark.ci
def test_slurm_asked_to_end_stages_save_their_states(work: Workspace):
    (work.root / "job.py").write_text(JOB.replace("time.sleep(", SAVES.replace("60", "0") + "time.sleep("))
    make_last(work, 60)
    running = start(work, "--slots", "1", "--slurm")
    (job,) = wait_for(work, "train_a")
    running.terminate()
    finish(running, work, 130)
    assert is_gone(job)
    assert "saved\n" in (work.root / "logs" / "train_a.txt").read_text()
