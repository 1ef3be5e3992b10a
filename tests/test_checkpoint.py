"""Checkpoints: what is read back is what was saved by the same work, whole; anything else is left aside."""

import errno
import os
import resource
import stat
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partialmethod
from pathlib import Path
from threading import Event, Thread

import psutil
import pytest
import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import save_file
from trainings import make_checkpoint

from pipeline.run.checkpoint import fingerprint_work, open_checkpoint

STATE = {"weights": torch.arange(6.0).view(2, 3), "step": torch.tensor(4)}


def saved(folder: Path) -> Path:
    """A folder with a state and a file."""
    with make_checkpoint(folder) as checkpoint:
        assert checkpoint.load() is None
        (checkpoint.files / "part").write_text("finished")
        checkpoint.save(STATE, {"row": [1, None, 0.1]})
    return folder


def test_a_state_is_read_back(tmp_path: Path):
    with make_checkpoint(saved(tmp_path / "work")) as checkpoint:
        found = checkpoint.load()
        assert found is not None
        assert found[1] == {"row": [1, None, 0.1]}
        assert found[0].keys() == STATE.keys()
        assert all(torch.equal(found[0][name], value) for name, value in STATE.items())
        assert (checkpoint.files / "part").read_text() == "finished"


def test_the_time_of_interrupted_processes_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for process, seconds in enumerate((5.0, 7.0)):
        monkeypatch.setattr("pipeline.run.checkpoint.count_seconds", lambda seconds=seconds: seconds)
        with make_checkpoint(tmp_path / "work") as checkpoint:
            checkpoint.load()
            assert checkpoint.earlier == 5.0 * process
            checkpoint.save(STATE, {})
    with make_checkpoint(tmp_path / "work") as checkpoint:
        checkpoint.load()
    assert checkpoint.earlier == 12.0


@pytest.mark.parametrize(
    "damage", ["truncated", "garbage", "a bit of a tensor", "no metadata", "other work", "other metadata"]
)
def test_a_state_that_is_not_whole_or_not_of_this_work_is_left_aside(damage: str, tmp_path: Path, capsys):
    path = saved(tmp_path / "work") / "state.safetensors"
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-3])
    elif damage == "garbage":
        path.write_bytes(b"x" * 100)
    elif damage == "a bit of a tensor":
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    elif damage == "no metadata":
        save_file(STATE, path)
    elif damage == "other metadata":
        save_file(STATE, path, {"fingerprint": "this", "content": "{"})
    with make_checkpoint(tmp_path / "work", fingerprint="that" if damage == "other work" else "this") as checkpoint:
        assert checkpoint.load() is None
        assert list(checkpoint.files.iterdir()) == []  # files that a state vouches for go with it
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "left aside" in said


def test_a_save_that_was_cut_off_leaves_the_one_before(tmp_path: Path):
    folder = saved(tmp_path / "work")
    (folder / "state.safetensors.partial").write_bytes(b"half")
    with make_checkpoint(folder) as checkpoint:
        assert checkpoint.load() is not None
        checkpoint.save({**STATE, "step": torch.tensor(5)}, {})
        found = checkpoint.load()
        assert found is not None
        assert found[0]["step"] == 5


def test_after_a_power_cut_no_state_counts_on_files_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """None can be made here: what must be on the disk is flushed before the state, or the outcome, gets its name."""
    flushed: list[int] = []
    named: dict[str, set[int]] = {}

    def flush(opened: int) -> None:
        flushed.append(os.fstat(opened).st_ino)

    def name(self: Path, target: Path, rename: Callable[[Path, Path], Path]) -> Path:
        named[target.name] = set(flushed)
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(Path, "replace", partialmethod(name, rename=Path.replace))
    monkeypatch.setattr(Path, "rename", partialmethod(name, rename=Path.rename))
    with make_checkpoint(tmp_path / "work") as checkpoint:
        checkpoint.load()
        part = checkpoint.files / "part"
        part.write_text("finished")
        checkpoint.save(STATE, {})
        state = tmp_path / "work" / "state.safetensors"
        assert {path.stat().st_ino for path in (state, part, checkpoint.files)} <= named["state.safetensors"]
        assert flushed[-1] == checkpoint.folder.stat().st_ino  # its name, too
        late = checkpoint.files / "late"
        late.write_text("after the last state")
        inodes = {path.stat().st_ino for path in (late, part)}
        checkpoint.finish(checkpoint.files, tmp_path / "runs" / "out")
    assert inodes | {(tmp_path / "runs" / "out").stat().st_ino} <= named["out"]
    assert flushed[-1] == (tmp_path / "runs").stat().st_ino


@pytest.mark.parametrize(("number", "saves"), [(errno.EINVAL, True), (errno.EIO, False)])
def test_a_file_system_that_cannot_flush_a_folder_is_none_that_loses_data(
    number: int, saves: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def flush(opened: int) -> None:
        if stat.S_ISDIR(os.fstat(opened).st_mode):
            raise OSError(number, os.strerror(number))

    with make_checkpoint(tmp_path / "work") as checkpoint:
        checkpoint.load()
        monkeypatch.setattr(os, "fsync", flush)
        with nullcontext() if saves else pytest.raises(OSError, match=os.strerror(number)):
            checkpoint.save(STATE, {})


@pytest.mark.slow
def test_saving_does_not_make_the_process_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As days of training would: some 10 bytes a tensor and save are safetensors' own, 64 were too many."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    state = {str(number): torch.zeros(10) for number in range(200)}
    process, held = psutil.Process(), []
    with make_checkpoint(tmp_path / "work") as checkpoint:
        checkpoint.load()
        for _ in range(2):
            for _ in range(300):
                checkpoint.save(state, {})
            held.append(process.memory_info().rss)
    assert held[1] - held[0] < 300 * len(state) * 32


def test_one_process_at_a_time(tmp_path: Path):
    busy = pytest.raises(ValueError, match="another process is at this work")
    with make_checkpoint(tmp_path / "work"), busy, make_checkpoint(tmp_path / "work"):
        pass
    with make_checkpoint(tmp_path / "work"):
        pass


@pytest.mark.parametrize("finishes", [False, True])
def test_a_process_that_is_about_to_end_is_waited_for(finishes: bool, tmp_path: Path):
    taken = Event()

    def work() -> None:  # a lock belongs to the thread that took it
        with make_checkpoint(tmp_path / "work") as first:
            taken.set()
            time.sleep(0.3)
            if finishes:
                first.remove()  # the folder vanishes
            time.sleep(0.1)

    Thread(target=work).start()
    assert taken.wait(20)
    with make_checkpoint(tmp_path / "work", patience=20) as second:
        assert second.load() is None
        second.save(STATE, {})
        with pytest.raises(ValueError, match="another process"), make_checkpoint(tmp_path / "work"):
            pass


def test_a_full_disk_leaves_the_state_before(tmp_path: Path):
    folder = saved(tmp_path / "work")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    with make_checkpoint(folder) as checkpoint:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limit[1]))
        try:
            with pytest.raises((OSError, SafetensorError)):
                checkpoint.save({"weights": torch.zeros(10_000)}, {})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        found = checkpoint.load()
        assert found is not None
        assert found[1] == {"row": [1, None, 0.1]}


@pytest.mark.parametrize("leftover", [False, True])
def test_finished_files_are_put_in_place_as_a_whole(leftover: bool, tmp_path: Path):
    out = tmp_path / "runs" / "out"
    if leftover:  # of an attempt that ended while they were put in place
        (tmp_path / "runs" / "out.partial").mkdir(parents=True)
        (tmp_path / "runs" / "out.partial" / "half").write_text("")
        out.mkdir()
        (out / "old").write_text("")
    with make_checkpoint(saved(tmp_path / "work")) as checkpoint:
        assert checkpoint.load() is not None
        checkpoint.finish(checkpoint.files, out)
    assert [path.name for path in out.iterdir()] == ["part"]
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    assert not (tmp_path / "work").exists()


def test_an_outcome_of_which_no_state_counts_on_anything_begins_empty_and_may_leave_the_state(tmp_path: Path):
    with make_checkpoint(saved(tmp_path / "work")) as checkpoint:
        for name in ("half", "whole"):
            outcome = checkpoint.make_folder("outcome")
            (outcome / name).write_text("")
        checkpoint.finish(outcome, tmp_path / "out", keep=True)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["whole"]
    with make_checkpoint(tmp_path / "work") as checkpoint:
        assert checkpoint.load() is not None


def test_it_is_due_after_its_minutes(tmp_path: Path):
    with make_checkpoint(tmp_path / "work", minutes=0) as checkpoint:
        assert checkpoint.is_due()
    with make_checkpoint(tmp_path / "work", minutes=0.001) as checkpoint:
        assert not checkpoint.is_due()
        checkpoint.saved -= 0.06
        assert checkpoint.is_due()
        checkpoint.load()
        checkpoint.save(STATE, {})
        assert not checkpoint.is_due()


def test_a_fingerprint_tells_code_settings_and_facts_apart():
    first = fingerprint_work("runner 1\nabc  a.py\n", '{"seed": 0}', data="abc")
    assert first == fingerprint_work("runner 1\nabc  a.py\n", '{"seed": 0}', data="abc")
    others = [
        fingerprint_work("runner 2\nabc  a.py\n", '{"seed": 0}', data="abc"),
        fingerprint_work("runner 1\nabd  a.py\n", '{"seed": 0}', data="abc"),
        fingerprint_work("runner 1\nabc  a.py\n", '{"seed": 1}', data="abc"),
        fingerprint_work("runner 1\nabc  a.py\n", '{"seed": 0}', data="abd"),
    ]
    assert len({first, *others}) == 5


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK])
def test_a_file_system_without_locks_is_no_other_process(number: int, tmp_path: Path, monkeypatch, capsys):
    def fail(self: FileLock, *_: object, **__: object) -> None:
        raise NotImplementedError if number == errno.ENOSYS else OSError(number, os.strerror(number))

    monkeypatch.setattr(FileLock, "acquire", fail)
    with make_checkpoint(tmp_path / "work") as checkpoint:
        checkpoint.load()
        checkpoint.save(STATE, {})
    assert "has no locks" in capsys.readouterr().err


def test_states_of_an_experiment_in_a_copy_belong_to_the_checkout(tmp_path: Path):
    copy = tmp_path / ".dvc" / "tmp" / "exps" / "standalone" / "tmpabc"
    copy.mkdir(parents=True)
    one, two = (open_checkpoint(copy, "node/digits/baseline/0", letter * 20, 5) for letter in "ab")
    assert one.folder == tmp_path / "checkpoints" / "node" / "digits" / "baseline" / f"0@{'a' * 12}"
    assert two.folder != one.folder  # another experiment, with other settings
    assert open_checkpoint(tmp_path, "x", "a", 5).folder == tmp_path / "checkpoints" / "x"
