"""Every output is written beside its place: what is in place may be a link into DVC's cache."""

import ast
import os
import stat
from contextlib import suppress
from pathlib import Path

import pytest
from problems import ROOT
from workspace import Workspace, commit_all, copy_project, copy_workspace

from pipeline.schema.files import replace_file, replace_folder, write_file, write_json


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_a_link_is_replaced_and_what_it_led_to_stays(tmp_path: Path, link):
    (tmp_path / "object").write_text("cached")
    link(tmp_path / "object", tmp_path / "out")
    write_json(tmp_path / "out", [1])
    assert (tmp_path / "object").read_text() == "cached"
    assert (tmp_path / "out").read_bytes() == b"[\n  1\n]\n"
    assert not (tmp_path / "out").is_symlink()


def test_a_file_has_the_rights_that_the_user_gives_new_files(tmp_path: Path):
    before = os.umask(0o027)
    try:
        write_file(tmp_path / "new folder" / "file", "é\r\n")
    finally:
        os.umask(before)
    path = tmp_path / "new folder" / "file"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert path.read_bytes() == "é\r\n".encode()


def test_after_an_error_the_old_file_stays_and_no_other(tmp_path: Path):
    write_file(tmp_path / "file", b"old")
    with suppress(OSError), replace_file(tmp_path / "file") as partial:
        partial.write_text("half")
        raise OSError
    with replace_folder(tmp_path / "folder") as folder:
        (folder / "part").write_text("old")
    with suppress(OSError), replace_folder(tmp_path / "folder") as folder:
        (folder / "half").write_text("half")
        raise OSError
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["file", "folder", "folder/part"]
    assert (tmp_path / "file").read_text() == "old"


def test_two_processes_write_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with replace_file(tmp_path / "file") as mine:
        mine.write_text("mine")
        monkeypatch.setattr(os, "getpid", lambda: -1)
        write_file(tmp_path / "file", "other")
        assert (tmp_path / "file").read_text() == "other"
    assert (tmp_path / "file").read_text() == "mine"


def list_files(work: Workspace, path: str) -> list[Path]:
    found = work.root / path
    return [part for part in sorted(found.rglob("*")) if part.is_file()] if found.is_dir() else [found]


BY_HAND = """
import sys
from importlib import import_module
for command in sys.argv[1].splitlines():
    sys.argv = command.split()
    import_module(sys.argv[0]).main()
"""


@pytest.mark.ci
def test_no_stage_that_is_started_by_hand_writes_through_a_link(calm: Workspace, tmp_path: Path):
    """Every file of every output gets a second name, as an object in the cache is one; all stages run again."""
    work = copy_workspace(calm, tmp_path / "project")
    stages = work.read("dvc.lock")["stages"].values()
    paths = [path for stage in stages for out in stage.get("outs", ()) for path in list_files(work, out["path"])]
    objects = {path: tmp_path / "objects" / path.relative_to(work.root) for path in paths}
    for path, known in objects.items():
        known.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, known)
    before = {path: known.read_bytes() for path, known in objects.items()}
    commands = [stage["cmd"].removeprefix("python -m ").replace('"', "") for stage in stages]
    work.run("python", "-c", BY_HAND, "\n".join(commands))
    for path, known in objects.items():
        assert not path.samefile(known), f"written through a link: {path}"
        assert known.read_bytes() == before[path]
    assert paths == [
        path for stage in stages for out in stage.get("outs", ()) for path in list_files(work, out["path"])
    ]


@pytest.mark.slow
def test_a_clone_has_the_same_bytes_whatever_its_line_ends(tmp_path: Path):
    work = copy_project(tmp_path / "project")
    commit_all(work)
    work.run("git", "clone", "-q", "-c", "core.autocrlf=true", ".", str(tmp_path / "clone"))
    for name in work.run("git", "ls-files", "-z").stdout.split("\0")[:-1]:
        assert (tmp_path / "clone" / name).read_bytes() == (work.root / name).read_bytes(), name


WRITERS = {"copy", "copy2", "copyfile", "copytree", "save_file", "savefig", "write_text", "write_bytes"}
ELSEWHERE = {
    "pipeline/data/download.py": {"copyfile"},  # to a temporary file of pooch's
    "pipeline/run/checkpoint.py": {"copyfile"},  # within what `replace_folder` gives
    "pipeline/report/pdf.py": {"savefig"},  # in memory
    "pipeline/plan/pool.py": {"open", "write_bytes"},  # what a stage says, for people
    "pipeline/plan/slots.py": {"open"},
    "pipeline/run/remote.py": {"open"},
    "pipeline/plan/text.py": {"write_text"},  # a function of its own
}


def find_writers(tree: ast.AST) -> set[str]:
    """Names of calls that write a file outside of a block of `replace_file` or `replace_folder`."""
    found = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.With):
            calls = [item.context_expr for item in node.items if isinstance(item.context_expr, ast.Call)]
            if any(ast.unparse(call.func) in ("replace_file", "replace_folder") for call in calls):
                continue
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func).split(".")[-1]
            modes = [str(argument.value) for argument in node.args if isinstance(argument, ast.Constant)]
            array = name == "copy" and not node.args  # `a.copy()`
            if (name in WRITERS and not array) or (name == "open" and any(set(mode) & set("wax+") for mode in modes)):
                found.add(name)
        found |= find_writers(node)
    return found


def test_nothing_else_opens_a_file_to_write():
    files = [path for room in ("pipeline", "stages") for path in (ROOT / room).rglob("*.py")]
    found = {path.relative_to(ROOT).as_posix(): find_writers(ast.parse(path.read_text())) for path in files}
    assert {name: writers for name, writers in found.items() if writers} == ELSEWHERE
