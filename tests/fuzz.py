"""make fuzz: damaged files of every kind that the project reads; each is read, or refused in one line that names it.

Reads nothing but copies in a temporary folder; the same seed gives the same inputs. Exits with 1 on any violation.
"""

import argparse
import contextlib
import io
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

from mutations import SENTINEL, damage_json, damage_table, damage_tensors, damage_yaml
from targets import File, Target, list_targets
from workspace import copy_project

SECONDS = 3.0
MEMORY = 6 << 30
"""Bytes of address space: what the process and torch's libraries map, and some room."""
DAMAGE = {".yaml": damage_yaml, ".json": damage_json, ".tsv": damage_table, ".safetensors": damage_tensors}
COMMANDS = ("check", "show node digits baseline", "tables", "show ddpm digits baseline", "check --quiet", "plan")
_RUNNING = (
    "os.system",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "subprocess.Popen",
    "pickle.find_class",
    "socket.connect",
)
_armed = False


class Violation(BaseException):  # no Exception, so that nothing under test swallows it
    """What must never happen."""


def audit(event: str, arguments: tuple[object, ...]) -> None:
    if _armed and event in _RUNNING:
        raise Violation(f"{event} {arguments!r:.200}")


@contextlib.contextmanager
def guard(seconds: float = SECONDS) -> Iterator[None]:
    """No hang beyond `seconds`, no process started and nothing unpickled."""

    def stop(*_: object) -> None:
        raise Violation(f"a hang over {seconds:g} s")

    global _armed
    handler = signal.signal(signal.SIGALRM, stop)
    timer = signal.setitimer(signal.ITIMER_REAL, seconds)
    _armed = True
    try:
        yield
    finally:
        _armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, *timer)  # pytest-timeout's


def judge(read: Callable[[], object], names: str) -> str:
    """`read`, or the class of the refusal.

    Args:
        names: what the one line must name.

    Raises:
        Violation: what a user would see as a traceback or a hang, or a line that says not where.
    """
    said = io.StringIO()
    try:
        with guard(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
            read()
        line, outcome = said.getvalue().rstrip("\n"), "read"
        if not line:
            return outcome
        outcome = "left aside"
    except (ValueError, OSError) as error:  # what `run_stage` shows as a line
        line, outcome = str(error), f"refused: {type(error).__name__}"
    except (Exception, Violation) as error:
        raise Violation(f"{type(error).__name__}: {error!s:.300}") from error
    finally:
        if Path(SENTINEL).exists():
            raise Violation("code from a file was run")
    if len(line.splitlines()) != 1 or len(line) > 3000 or names not in line:
        raise Violation(f"not one line that names {names}: {line!r:.500}")
    return outcome


@dataclass(frozen=True)
class Failed:
    """A violation, and the input that shows it."""

    target: str
    index: int
    content: bytes
    why: str


def damage(file: File, random: Random) -> bytes:
    """Damage a file in place."""
    content = DAMAGE[file.path.suffix](file.path.read_bytes(), random)
    file.path.write_bytes(content)
    return content


def try_target(target: Target, count: int, seed: int) -> tuple[Counter[str], list[Failed]]:
    """Damage the target's files in turn, `count` inputs in all."""
    outcomes: Counter[str] = Counter()
    failed = []
    for index in range(count):
        random = Random(f"{seed} {target.name} {index}")  # noqa: S311
        file = target.files[index % len(target.files)]
        whole = file.path.read_bytes()
        content = damage(file, random)
        try:
            outcomes[judge(file.read, file.names)] += 1
        except Violation as violation:
            outcomes["VIOLATION"] += 1
            failed.append(Failed(target.name, index, content, f"{file.names}: {violation}"))
        finally:
            file.path.write_bytes(whole)
    return outcomes, failed


def run_command(root: Path, command: str) -> str:
    """`python -m pipeline COMMAND` as a user runs it.

    Raises:
        Violation: it ends otherwise than well, or with status 1 and one line.
    """
    try:
        result = subprocess.run(
            [sys.executable, "-m", "pipeline", *command.split()],
            cwd=root, capture_output=True, text=True, timeout=60, check=False, errors="surrogateescape",
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Violation(f"{command}: a hang") from None
    if result.returncode == 0:
        return "read"
    lines = result.stderr.splitlines()
    if result.returncode != 1 or len(lines) != 1 or not lines[0].startswith("error: "):
        raise Violation(f"{command}: status {result.returncode}: {result.stderr[-300:]!r}")
    return "refused"


def try_commands(root: Path, count: int, seed: int) -> tuple[Counter[str], list[Failed]]:
    """Settings and records damaged in a copy of the project, each before one of four commands."""
    copy_project(root)
    paths = [
        root / "params.yaml",
        *sorted((root / "specs").rglob("*.yaml")),
        *sorted(root.glob("records/*/*/*/0.json")),
    ]
    outcomes: Counter[str] = Counter()
    failed = []
    for index in range(count):
        random = Random(f"{seed} commands {index}")  # noqa: S311
        path, command = random.choice(paths), COMMANDS[index % len(COMMANDS)]
        whole = path.read_bytes()
        content = damage(File(path, list, path.name), random)
        try:
            outcomes[run_command(root, command)] += 1
        except Violation as violation:
            outcomes["VIOLATION"] += 1
            failed.append(Failed("commands", index, content, f"{path.name}: {violation}"))
        finally:
            path.write_bytes(whole)
    return outcomes, failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=12_000, help="over all targets")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="one target")
    parser.add_argument("--keep", type=Path, help="a folder for the inputs of violations")
    args = parser.parse_args()
    sys.addaudithook(audit)
    failed: list[Failed] = []
    total, start = 0, time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        targets = list_targets(Path(folder) / "files")
        shares = sum(target.share for target in targets)
        trials = {
            target.name: partial(try_target, target, -(-args.inputs * target.share // shares), args.seed)
            for target in targets
        }
        trials["commands"] = partial(try_commands, Path(folder) / "project", args.inputs // 300, args.seed)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        for name, trial in trials.items():
            if args.only not in (None, name):
                continue
            begun = time.perf_counter()
            outcomes, found = trial()
            failed += found
            total += outcomes.total()
            shown = ", ".join(f"{outcome} {number}" for outcome, number in outcomes.most_common())
            print(f"{name:10} {outcomes.total():6} in {time.perf_counter() - begun:5.1f} s: {shown}", flush=True)
    for one in failed[:20]:
        print(f"VIOLATION {one.target} {one.index}: {one.why}")
    if args.keep:
        shutil.rmtree(args.keep, ignore_errors=True)
        args.keep.mkdir(parents=True)
        for one in failed:
            (args.keep / f"{one.target}-{one.index}").write_bytes(one.content)
    print(f"{total} inputs, {len(failed)} violations, seed {args.seed}, {time.perf_counter() - start:.0f} s")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
