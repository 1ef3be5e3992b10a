"""make fuzz: damaged files of every kind that the project reads; each is read, or refused in one line that names it.

Reads nothing but copies in a temporary folder; the same seed gives the same inputs. Exits with 1 on any violation.
"""

import argparse
import contextlib
import io
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from mutations import SENTINEL, damage_json, damage_table, damage_tensors, damage_yaml
from targets import Target, list_targets

SECONDS = 3.0
MEMORY = 6 << 30
"""Bytes of address space: what the process and torch's libraries map, and some room."""
DAMAGE = {".yaml": damage_yaml, ".json": damage_json, ".tsv": damage_table, ".safetensors": damage_tensors}
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


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if _armed and event in _RUNNING:
        raise Violation(f"{event} {arguments!r:.200}")


@contextlib.contextmanager
def guard(seconds: float = SECONDS) -> Iterator[None]:
    """No hang beyond `seconds`, no process started and nothing unpickled."""

    def stop(*_: object) -> None:
        raise Violation(f"a hang over {seconds:g} s")

    global _armed
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    _armed = True
    try:
        yield
    finally:
        _armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


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


def try_target(target: Target, count: int, seed: int) -> tuple[Counter[str], list[Failed]]:
    """Damage the target's files in turn, `count` inputs in all."""
    outcomes: Counter[str] = Counter()
    failed = []
    for index in range(count):
        random = Random(f"{seed} {target.name} {index}")  # noqa: S311
        file = target.files[index % len(target.files)]
        whole = file.path.read_bytes()
        content = DAMAGE[file.path.suffix](whole, random)
        file.path.write_bytes(content)
        try:
            outcomes[judge(file.read, file.names)] += 1
        except Violation as violation:
            outcomes["VIOLATION"] += 1
            failed.append(Failed(target.name, index, content, f"{file.names}: {violation}"))
        finally:
            file.path.parent.mkdir(parents=True, exist_ok=True)
            file.path.write_bytes(whole)
    return outcomes, failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=12_000, help="over all targets")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="one target")
    parser.add_argument("--keep", type=Path, help="a folder for the inputs of violations")
    args = parser.parse_args()
    sys.addaudithook(_audit)
    failed: list[Failed] = []
    total = 0
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        targets = list_targets(Path(folder))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        weights = sum(target.share for target in targets)
        for target in targets:
            if args.only not in (None, target.name):
                continue
            begun = time.perf_counter()
            outcomes, found = try_target(target, -(-args.inputs * target.share // weights), args.seed)
            failed += found
            total += outcomes.total()
            shown = ", ".join(f"{name} {number}" for name, number in outcomes.most_common())
            print(f"{target.name:12} {outcomes.total():6} in {time.perf_counter() - begun:5.1f} s: {shown}", flush=True)
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
