"""What the image runs: `python -m pipeline run` unless told otherwise, after a look at where it runs.

The first argument decides: a command of `python -m pipeline` (run, check, show, tables, plan, ...), of DVC (repro, exp,
status, ...), or a program (bash, pytest, dvc). Without arguments: `run`, then the summary.
"""

import fcntl
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import IO

import psutil

WORKSPACE = Path("/workspace")
CACHE = Path("/cache")
CACHE_ELSEWHERE = "/opt/pipeline/cache-elsewhere"
"""A folder with a configuration of DVC that keeps its cache in /cache (docker/Dockerfile)."""
READING = ("check", "show", "fields", "summary", "tables", "compare")
PIPELINE = (
    *READING,
    "plan",
    "run",
    "recover",
    "keep",
    "frontpage",
    "export",
    "import",
    "ema",
    "audit",
    "timetest",
    "give",
    "take",
)
DVC = (
    "repro",
    "exp",
    "status",
    "dag",
    "metrics",
    "params",
    "plots",
    "data",
    "checkout",
    "commit",
    "push",
    "pull",
    "gc",
)
SHELLS = ("sh", "dash", "bash")
NCCL_BYTES = 1 << 30
"""Shared memory that the documentation of NCCL gives a container (--shm-size=1g)."""


class MistakeError(Exception):
    """Something about the container that its user can mend; the message says how."""


def say(text: str) -> None:
    """One line to stderr."""
    print(text, file=sys.stderr, flush=True)


def name_user(env: dict[str, str]) -> None:
    """Give a user without an entry in /etc/passwd, such as `--user 12345`, a name and a home.

    Raises:
        MistakeError: there is nowhere to write.
    """
    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = f"uid{uid}"
    env["USER"] = env["LOGNAME"] = name
    if os.access(env.get("HOME", "/"), os.W_OK) and env.get("HOME", "/") != "/":
        return
    home = Path(f"/tmp/home-{uid}")  # noqa: S108 - the container's own
    try:
        home.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise MistakeError(f"{home.parent}: {error.strerror}; with --read-only add --tmpfs /tmp:exec") from None
    env["HOME"] = str(home)


def check_repository(git: Path) -> None:
    """Refuse a worktree or submodule whose repository is not in the container.

    Raises:
        MistakeError: with the option of `docker run` that is missing.
    """
    if not git.is_file():
        return
    folder = (git.parent / git.read_text(encoding="utf-8", errors="replace").removeprefix("gitdir:").strip()).resolve()
    if folder.is_dir():
        return
    repository = folder.parent.parent if folder.parent.name == "worktrees" else folder
    raise MistakeError(
        f"{git.parent} is a git worktree or submodule, and its repository {repository} is not in the container: "
        f'add -v "{repository}:{repository}", or mount a clone'
    )


def as_owner(root: Path) -> str:
    """The option of `docker run` that makes its user the owner; with a rootless engine that is 0."""
    found = root.stat()
    return f"run with --user {found.st_uid}:{found.st_gid}"


def check_owner(root: Path) -> None:
    """Refuse a workspace where this user could not write, or would leave files that its owner cannot change.

    Raises:
        MistakeError: with what to do.
    """
    uid, owner = os.getuid(), root.stat().st_uid
    if uid == 0 and owner != 0:
        raise MistakeError(f"{root} belongs to user {owner} and would get files of root: {as_owner(root)}")
    if os.statvfs(root).f_flag & os.ST_RDONLY:
        raise MistakeError(f'{root} is read-only: mount a checkout of the project there, -v "$PWD":{root}')
    if not os.access(root, os.W_OK):
        raise MistakeError(f"{root} belongs to user {owner}, and user {uid} may not write there: {as_owner(root)}")
    for folder in (root, root / ".dvc", root / ".dvc" / "tmp"):
        for path in folder.iterdir() if folder.is_dir() else ():
            found = path.lstat().st_uid
            if not path.is_symlink() and found != uid and not os.access(path, os.W_OK):
                raise MistakeError(
                    f"{path} belongs to user {found}, and user {uid} may not write there (left by a container that "
                    f'ran as another user?): on the host, sudo chown -R "$(id -u):$(id -g)" in the checkout'
                )


def check_workspace(root: Path, writes: bool) -> None:
    """Refuse a workspace in which the command would fail later.

    Raises:
        MistakeError: with what to do.
    """
    if not os.access(root, os.R_OK | os.X_OK):
        raise MistakeError(
            f"{root} belongs to user {root.stat().st_uid}, and user {os.getuid()} may not read it: {as_owner(root)}"
        )
    if not (root / "dvc.yaml").is_file():
        raise MistakeError(
            f"{root}/dvc.yaml: no such file: mount a checkout of the project there, or nothing for the image's own"
        )
    check_repository(root / ".git")
    if writes:
        check_owner(root)


def describe_device() -> str:
    """What the container computes on, in a line.

    Raises:
        MistakeError: there is a GPU, and torch cannot use it.
    """
    if not any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/dxg")):  # dxg: Windows' Linux
        return "no GPU in this container: running on the CPU (docker run --gpus all gives it the GPUs)"
    probe = "import torch; torch.cuda.init(); print(torch.cuda.device_count(), torch.cuda.get_device_name())"
    found = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    if found.returncode:
        reason = found.stderr.strip().rsplit("\n", 1)[-1]
        raise MistakeError(f"torch cannot use this container's GPU ({reason}): run without --gpus for the CPU")
    count, name = found.stdout.split(maxsplit=1)
    if int(count) > 1 and shutil.disk_usage("/dev/shm").total < NCCL_BYTES:  # noqa: S108
        say("warning: several GPUs, and less than 1 GB in /dev/shm: add --shm-size=8g")
    return f"{count} x {name.strip()}"


def take_workspace(root: Path) -> IO[str]:
    """Be the only container that computes in this workspace, as long as the file returned is open.

    Raises:
        MistakeError: another container does.
    """
    folder = root / ".dvc" / "tmp"
    folder.mkdir(exist_ok=True)
    file = (folder / "container.lock").open("w", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise MistakeError(f"another container computes in {root}: wait for it, or mount another checkout") from None
    return file


def find_stages(process: psutil.Process) -> Iterator[psutil.Process]:
    """The commands of stages below a process of DVC, without the shells that wait for them."""
    with suppress(psutil.Error):  # it has just ended
        for child in process.children():
            with suppress(psutil.Error):
                if child.name() in SHELLS:
                    yield from find_stages(child)
                elif "DVC_STAGE" in child.environ():
                    yield child


def supervise(command: list[str], env: dict[str, str], passes_on: bool) -> int:
    """Run DVC so that `docker stop` and Ctrl-C end the stage, which saves its state, and DVC ends by itself.

    DVC writes dvc.lock in place, and would lose it if it were interrupted then. A second signal reaches DVC.

    Args:
        passes_on: the command ends its stages by itself when it gets a signal, as `pipeline run` does.

    Returns:
        its exit status, or 128 + the number of the signal.
    """
    asked: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        asked.append(number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, note)
    # In a group of its own: a terminal's Ctrl-C comes here alone.
    dvc = psutil.Popen(command, env=env, process_group=0)
    told, passed = set[psutil.Process](), 0
    while dvc.poll() is None:
        if asked and passes_on:
            while passed < len(asked):
                dvc.send_signal(signal.SIGTERM)
                passed += 1
        elif asked:
            stages = set(find_stages(dvc)) - told
            for stage in stages:
                with suppress(psutil.NoSuchProcess):
                    stage.terminate()
            told |= stages
            if len(asked) > 1:
                dvc.send_signal(signal.SIGINT)
                del asked[1:]
        time.sleep(0.1)
    if asked and dvc.returncode:
        say("stopped: what is finished is kept; run it again to go on")
        return 128 + asked[0]
    return 128 - dvc.returncode if dvc.returncode < 0 else int(dvc.returncode)


def choose_command(arguments: list[str]) -> list[str]:
    """The program and arguments that the arguments of `docker run IMAGE` stand for.

    Raises:
        MistakeError: there is none.
    """
    if arguments[0] in PIPELINE:
        return [sys.executable, "-m", "pipeline", *arguments]
    if arguments[0] in DVC:
        return ["dvc", *arguments]
    if shutil.which(arguments[0]) is None:
        allowed = ", ".join((*PIPELINE, *DVC))
        raise MistakeError(
            f"{arguments[0]}: no such command; allowed are {allowed}, and programs such as dvc, pytest, bash"
        )
    return arguments


def main(arguments: list[str]) -> int:
    """Look at the container, then run what it was asked for.

    Returns:
        the exit status.
    """
    sums_up, arguments = not arguments, arguments or ["run"]
    verb = arguments[0]
    if verb in ("-h", "--help"):
        print(__doc__)
        return 0
    env = dict(os.environ)
    name_user(env)
    if CACHE.is_dir() and not CACHE.samefile(WORKSPACE):
        env["DVC_SYSTEM_CONFIG_DIR"] = CACHE_ELSEWHERE
    command = choose_command(arguments)
    runs = verb == "run" and not {"--dry-run", "--help", "-h"} & set(arguments)
    computes = runs or command[:2] == ["dvc", "repro"] or command[:3] == ["dvc", "exp", "run"]
    if command[0] == "dvc" or verb in PIPELINE:
        check_workspace(WORKSPACE, writes=verb not in READING)
    if computes or verb == "plan":
        say(describe_device())
    if not computes:
        os.execvpe(command[0], command, env)  # noqa: S606
    if not WORKSPACE.is_mount():
        say("no checkout is mounted at /workspace: results stay in this container")
    with take_workspace(WORKSPACE):
        # What a killed container left behind: in a new one the same small numbers of processes come again.
        looks = [["recover"]]
        if runs or command[1] == "repro":  # `exp run -S` may mend what the check would refuse
            looks.append(["check", "--quiet"])
        status = 0
        for words in looks:
            look = [sys.executable, "-m", "pipeline", *words]
            status = status or subprocess.run(look, env=env, check=False).returncode
        status = status or supervise(command, env, passes_on=runs)
        if sums_up and status == 0:
            status = subprocess.run([sys.executable, "-m", "pipeline", "summary"], env=env, check=False).returncode
    return status


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (MistakeError, OSError) as error:
        say(f"error: {error}")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
