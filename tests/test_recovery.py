"""What a killed `dvc` or a merge leaves behind does not need the user: `recover`, on small DVC projects."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from workspace import ROOT, Workspace, commit_all

STAGES = """
stages:
  first: {cmd: cp number first && echo first >> ran, deps: [number], outs: [first]}
  second: {cmd: cp first second && echo second >> ran, deps: [first], outs: [second]}
"""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Both stages have run, and again with another number: the lock file is newer than the last commit's."""
    workspace = Workspace(tmp_path_factory.mktemp("recovery") / "project")
    workspace.root.mkdir()
    (workspace.root / "dvc.yaml").write_text(STAGES)
    (workspace.root / "number").write_text("1")
    (workspace.root / ".gitignore").write_text("ran\ndvc.lock.broken*\n")
    workspace.run("git", "init", "-q")
    workspace.run("dvc", "init", "-q")
    workspace.run("dvc", "repro")
    for key, value in {"user.name": "test", "user.email": "test@example.org"}.items():
        workspace.run("git", "config", key, value)
    commit_all(workspace)
    (workspace.root / "number").write_text("2")
    workspace.run("dvc", "repro")
    return workspace


@pytest.fixture
def work(template: Workspace, tmp_path: Path) -> Workspace:
    return Workspace(shutil.copytree(template.root, tmp_path / "project", symlinks=True))


def recover(work: Workspace) -> str:
    said = work.run("python", "-m", "pipeline", "recover", PYTHONPATH=str(ROOT)).stderr
    assert "Traceback" not in said
    return said


def ran(work: Workspace) -> int:
    return len((work.root / "ran").read_text().splitlines())


@pytest.mark.parametrize(
    ("last", "committed"),
    [
        (None, True),
        pytest.param(None, False, marks=pytest.mark.slow),
        pytest.param(b"    outs:\n    - pa", True, marks=pytest.mark.slow),
    ],
)
def test_a_lock_file_that_was_cut_off_is_mended_and_nothing_runs_again(
    last: bytes | None, committed: bool, work: Workspace
):
    lock = work.root / "dvc.lock"
    whole = lock.read_bytes()
    if not committed:
        work.run("git", "rm", "-q", "--cached", "dvc.lock")
        work.run("git", "commit", "-qm", "without")
    lock.write_bytes(whole[: whole.index(last) + len(last)] if last else b"")
    assert work.run("dvc", "repro", ok=False).returncode != 0
    said = recover(work)
    assert said.startswith("dvc.lock: cut off, or merged by git as text; it is dvc.lock.broken now, and ")
    assert said.count("\n") == 1
    assert ("what git has of it (HEAD) is in its place" in said) == committed
    work.run("dvc", "repro")
    assert ran(work) == 4
    assert lock.read_bytes() == whole
    assert (work.root / "second").read_text() == "2"
    assert recover(work) == ""


@pytest.mark.parametrize("content", [b"", b"stages: [", b"\xff\xfe"])
def test_a_broken_commit_is_no_help(content: bytes, work: Workspace):
    lock = work.root / "dvc.lock"
    work.run("git", "checkout", "-q", "--orphan", "alone")
    lock.write_bytes(content)
    commit_all(work)
    assert "a new one will be written" in recover(work)
    assert not lock.exists()
    assert (work.root / "dvc.lock.broken").read_bytes() == content


@pytest.mark.slow
def test_a_whole_lock_file_and_one_that_is_not_there_are_left_alone(work: Workspace):
    lock = work.root / "dvc.lock"
    whole = lock.read_bytes()
    assert recover(work) == ""
    assert lock.read_bytes() == whole
    lock.unlink()
    assert recover(work) == ""
    assert not lock.exists()


@pytest.mark.slow
def test_nothing_is_touched_while_dvc_is_at_work(work: Workspace):
    (work.root / "dvc.lock").write_bytes(b"")
    hold = "import sys, zc.lockfile; held = zc.lockfile.LockFile('.dvc/tmp/lock'); print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", hold], cwd=work.root, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdout.readline()
        assert recover(work) == ""
        assert (work.root / "dvc.lock").read_bytes() == b""
        other.stdin.close()


@pytest.mark.slow
def test_the_dead_hold_nothing_and_the_living_what_they_hold(work: Workspace):
    """A number that another process has by now is that of a dead one."""
    path = work.root / ".dvc" / "tmp" / "rwlock"
    first = str(work.root / "first")
    dead = {"pid": os.getpid(), "cmd": "dvc repro of another day"}
    mine = " ".join(Path(f"/proc/{os.getpid()}/cmdline").read_text().strip("\0").split("\0"))
    living = {"pid": os.getpid(), "cmd": mine}
    path.write_text(json.dumps({"write": {first: dead}, "read": {}}))
    (work.root / "number").write_text("3")
    assert "it is being blocked by" in work.run("dvc", "repro", ok=False).stderr
    assert recover(work) == ""
    work.run("dvc", "repro")
    held = json.dumps({"write": {first: living}, "read": {first: [dead, living]}})
    path.write_text(held)
    recover(work)
    assert path.read_text() == held


@pytest.mark.slow
@pytest.mark.parametrize("content", ['{"write": {"/workspa', "[]", '{"write": {"x": 1}}', ""])
def test_a_list_of_busy_paths_that_was_cut_off_goes(content: str, work: Workspace):
    path = work.root / ".dvc" / "tmp" / "rwlock"
    path.write_text(content)
    recover(work)
    assert not path.exists()
    work.run("dvc", "repro")


def test_outside_a_project_it_says_so_in_a_line(tmp_path: Path):
    result = Workspace(tmp_path).run("python", "-m", "pipeline", "recover", ok=False, PYTHONPATH=str(ROOT))
    assert result.returncode == 1
    assert result.stderr.startswith("error: DVC: ")
    assert result.stderr.count("\n") == 1


# ---- Merges ----------------------------------------------------------------------------------------------------------

BRANCHES = """
stages:
  check: {cmd: cp params.yaml checked, deps: [params.yaml], outs: [checked]}
  train:
    matrix: {arm: "${arms}"}
    cmd: mkdir -p runs && echo ${item.arm} > runs/${item.arm} && echo ${item.arm} >> ran
    deps: [code]
    outs: ["runs/${item.arm}"]
  report:
    cmd: cat runs/* > report
    deps: [runs]
    outs: [report: {cache: false}]
"""
HEADER = "arm\tseed\tstep\toutput\n"


def begin(root: Path) -> Workspace:
    """Two branches, on each of which an arm was added and trained; the second's is the workspace."""
    workspace = Workspace(root)
    root.mkdir()
    files = {"dvc.yaml": BRANCHES, "code": "1", ".gitignore": "ran\n/runs\n/checked\ndvc.lock.broken*\n"}
    for name, content in files.items():
        (root / name).write_text(content)
    shutil.copy(ROOT / ".gitattributes", root)
    workspace.run("git", "init", "-q", "-b", "main")
    workspace.run("dvc", "init", "-q")
    for key, value in {"user.name": "test", "user.email": "test@example.org"}.items():
        workspace.run("git", "config", key, value)
    for branch, arms in (("main", ["m"]), ("one", ["m", "zz"]), ("two", ["m", "aa"])):
        workspace.run(
            "git", "checkout", "-q", *([] if branch == "main" else ["-b", branch]), "main", ok=branch != "main"
        )
        train(workspace, arms)
        commit_all(workspace)
    return workspace


def train(work: Workspace, arms: list[str]) -> None:
    """Set the arms and train, with a ledger as the stage `record` writes it."""
    (work.root / "params.yaml").write_text(f"arms: [{', '.join(arms)}]\n")
    work.run("dvc", "repro")
    path = work.root / "ledger" / "node" / "digits.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEADER + "".join(f"{arm}\t0\ttrain\tx\n" for arm in arms))


@pytest.fixture(scope="module")
def parted(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return begin(tmp_path_factory.mktemp("merge") / "project")


@pytest.mark.ci
@pytest.mark.parametrize(
    ("way", "then"),
    [
        ("merge", []),
        ("merge", ["add -A"]),
        ("rebase", []),
        ("cherry-pick", []),
    ],
)
def test_after_a_merge_nothing_is_trained_again(way: str, then: list[str], parted: Workspace, tmp_path: Path):
    """Not even without DVC's run-cache, which does not come with `dvc pull`: the lock file's entries are enough."""
    work = Workspace(shutil.copytree(parted.root, tmp_path / "project", symlinks=True))
    assert work.run("git", way, "one", ok=False).returncode != 0
    shutil.rmtree(work.root / ".dvc" / "cache" / "runs")
    assert "<<<<<<<" in (work.root / "dvc.lock").read_text()
    for command in then:  # as if nothing were left to do
        work.run("git", *command.split())
    said = recover(work)
    assert said.startswith("dvc.lock: cut off, or merged by git as text")
    assert said.count("\n") == 1
    (work.root / "params.yaml").write_text("arms: [m, aa, zz]\n")
    assert recover(work) == ""
    before = ran(work)
    work.run("dvc", "repro")
    assert ran(work) == before
    assert (work.root / "report").read_text() == "aa\nm\nzz\n"
    header, *rows = (work.root / "ledger/node/digits.tsv").read_text().splitlines()
    assert header + "\n" == HEADER
    assert sorted(rows) == [f"{arm}\t0\ttrain\tx" for arm in ("aa", "m", "zz")]
    whole = (work.root / "dvc.lock").read_bytes()
    assert recover(work) == ""  # what is finished stays
    assert (work.root / "dvc.lock").read_bytes() == whole
    work.run("git", "add", "-A")
    assert work.executed() == set()
