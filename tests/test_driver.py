"""`pipeline run` does what `dvc repro` does, beside each other: same lock, nothing lost, problems told by name."""

import os
import signal
from pathlib import Path

import pytest
from quick_stages import (
    JOB,
    drive,
    forget,
    is_gone,
    list_ran,
    make_last,
    make_project,
    start,
    wait,
    wait_for,
)
from workspace import Workspace

pytestmark = pytest.mark.ci


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    return make_project(tmp_path / "project")


def test_the_lock_is_that_of_dvc_repro_and_nothing_runs_twice(work: Workspace):
    work.run("dvc", "repro")
    serial, outputs = work.read("dvc.lock"), {path.name: path.read_text() for path in (work.root / "out").iterdir()}
    forget(work)
    drive(work)
    assert sorted(list_ran(work)) == ["a", "b", "c", "d", "e"]
    assert work.read("dvc.lock") == serial
    assert {path.name: path.read_text() for path in (work.root / "out").iterdir()} == outputs
    assert "up to date" in work.run("dvc", "status").stdout
    assert "5 kept" in drive(work).stderr
    (work.root / "source.txt").write_text("2")
    drive(work)
    assert len(list_ran(work)) == 5
    (work.root / "source.txt").write_text("1")  # back: from the run-cache
    assert "5 restored" in drive(work).stderr
    assert work.read("dvc.lock") == serial
    assert work.executed() == set()
    assert not list_ran(work)


def test_a_target_runs_with_what_it_needs(work: Workspace):
    drive(work, "d")
    assert sorted(list_ran(work)) == ["a", "b", "d"]
    said = drive(work, "nix", ok=False)
    assert said.returncode == 1
    assert said.stderr.count("\n") == 1
    assert "nix" in said.stderr


def test_where_a_stage_fails_the_others_go_on_and_it_is_named(work: Workspace):
    (work.root / "fail").write_text("b")
    said = drive(work, ok=False)
    assert said.returncode == 1
    assert "failed: b (status 3, logs/b.txt): error: it was asked to" in said.stderr
    assert sorted(list_ran(work)) == ["a", "c"]
    assert "2 made, 1 failed, 2 blocked" in said.stderr
    assert sorted(work.read("dvc.lock")["stages"]) == ["a", "c"]
    (work.root / "fail").unlink()
    drive(work)
    assert sorted(list_ran(work)) == ["b", "d", "e"]


def test_what_was_edited_meanwhile_is_not_recorded(work: Workspace):
    make_last(work, 3)
    running = start(work, "--slots", "2")
    wait_for(work, "a", "b")
    (work.root / "source.txt").write_text("edited")
    assert running.wait(120) == 1
    said = (work.root / "said.txt").read_text()
    assert "a: source.txt was edited while it ran: its result is not recorded" in said
    assert not (work.root / "dvc.lock").exists()


def test_a_second_one_says_so_in_one_line(work: Workspace):
    make_last(work, 5)
    running = start(work, "--slots", "2")
    wait_for(work, "a")
    second = drive(work, ok=False)
    assert second.returncode == 1
    assert "another `dvc` or `pipeline run` is at work here" in second.stderr
    assert second.stderr.count("\n") == 1
    assert work.run("dvc", "repro", ok=False).returncode != 0
    assert running.wait(120) == 0
    assert sorted(list_ran(work)) == ["a", "b", "c", "d", "e"]


def test_beside_dvc_repro_it_says_so_and_that_one_goes_on(work: Workspace):
    """While its stage runs, `dvc repro` lets go of DVC's lock."""
    make_last(work, 5)
    with (work.root / "said.txt").open("wb") as said:
        running = work.start("dvc", "repro", output=said)
    wait_for(work, "a")
    refused = drive(work, ok=False)
    assert refused.returncode == 1
    assert "at work here" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert running.wait(120) == 0
    assert len(list_ran(work)) == 5


def test_asked_to_end_it_ends_its_stages_and_goes_on_later(work: Workspace):
    make_last(work, 30)
    running = start(work, "--slots", "2")
    jobs = wait_for(work, "a", "b")
    running.send_signal(signal.SIGTERM)
    assert running.wait(60) == 130
    assert all(map(is_gone, jobs))
    make_last(work, 0.1)
    drive(work)
    assert sorted(list_ran(work)) == ["a", "b", "c", "d", "e"]


def test_asked_a_second_time_it_ends_at_once(work: Workspace):
    ignore = "import signal\nsignal.signal(signal.SIGTERM, lambda *_: print('not yet', flush=True))\n"
    (work.root / "job.py").write_text(ignore + JOB.replace("time.sleep(", "time.sleep(60) or time.sleep("))
    running = start(work, "--slots", "2")
    jobs = wait_for(work, "a", "b")
    running.send_signal(signal.SIGINT)
    log = work.root / "logs" / "a.txt"
    wait(lambda: "not yet" in log.read_text())
    assert running.poll() is None
    running.send_signal(signal.SIGINT)
    assert running.wait(20) == 130
    wait(lambda: all(map(is_gone, jobs)), 10)
    assert not (work.root / "dvc.lock").exists()


def test_killed_it_takes_its_stages_along_and_loses_nothing_that_was_done(work: Workspace):
    drive(work, "a", "b")
    list_ran(work)
    make_last(work, 30)
    running = start(work, "--slots", "2")
    jobs = wait_for(work, "c")
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    wait(lambda: all(map(is_gone, jobs)), 30)
    make_last(work, 0.1)
    drive(work)
    assert sorted(list_ran(work)) == ["c", "d", "e"]


def test_a_stage_that_is_killed_is_named_and_the_rest_goes_on(work: Workspace):
    make_last(work, 4)
    running = start(work, "--slots", "2")
    (job, _) = wait_for(work, "b", "a")
    os.kill(job, signal.SIGKILL)
    assert running.wait(120) == 1
    assert "failed: b (SIGKILL, logs/b.txt)" in (work.root / "said.txt").read_text()
    assert sorted(list_ran(work)) == ["a", "c"]


def test_a_stage_runs_the_code_that_is_on_disk(work: Workspace):
    """It is forked from a process that has imported packages alone."""
    code = "import sys; from pathlib import Path; assert 'torch' in sys.modules\n"
    code += "from pipeline.schema.base import MARK\nPath('out').mkdir(exist_ok=True)\n"
    code += "Path('out/a.txt').write_text(MARK)\n"
    (work.root / "job.py").write_text(code)
    with (work.root / "pipeline" / "schema" / "base.py").open("a") as file:
        file.write("\nMARK = 'from disk'\n")
    drive(work, "a")
    assert (work.root / "out" / "a.txt").read_text() == "from disk"
