"""Where stages run: what the driver asks of this machine's slots, of Ray and of Slurm alike."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipeline.schema.files import replace_file

HEAVY = ("train_", "sample_", "evaluate_", "extractor", "reference")
"""Name prefixes of the stages that use a GPU if there is one, and that a cluster runs if there is one."""


@dataclass(frozen=True)
class Ended:
    """A stage that has ended."""

    name: str
    status: int
    """Its exit status; negative: the signal that ended it."""


@dataclass(frozen=True)
class Cluster:
    """What runs the heavy stages in place of this machine: Ray, else Slurm."""

    ray: str | None = None
    """Address of Ray's head node, or `auto`."""
    options: tuple[str, ...] = ()
    """Of Slurm's jobs: KEY=VALUE."""


class Pool(Protocol):
    """Runs commands of stages, whose output goes to their logs. It knows nothing of DVC."""

    @property
    def count(self) -> int:
        """How many stages run at once; of a cluster that grows, now."""

    def has_room(self, name: str) -> bool:
        """Whether a stage can start now."""

    def start(self, name: str, command: str) -> None:
        """Start a stage."""

    def collect(self) -> Sequence[Ended]:
        """The stages that have ended since the last call."""

    def wait(self, seconds: float) -> None:
        """Sleep so long, or until a stage may have ended."""

    def send(self, number: int) -> None:
        """Send a signal to every stage that runs: SIGTERM or SIGKILL."""

    def close(self) -> None:
        """Let go of what the pool holds, once no stage runs."""


def find_log(root: Path, name: str) -> Path:
    """The log of a stage."""
    return root / "logs" / f"{name.replace('/', '-')}.txt"


def begin_log(root: Path, name: str) -> Path:
    """An empty log for a stage that will run elsewhere."""
    path = find_log(root, name)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"")
    return path


def log_problem(root: Path, name: str, problem: str) -> None:
    """Write to a stage's log why it did not end by itself: what the driver says of it is the last line."""
    with find_log(root, name).open("a", encoding="utf-8") as log:
        log.write(f"error: {' '.join(problem.split())}\n")


def write_mark(root: Path) -> tuple[Path, str]:
    """Leave a mark in the project's folder, by which another machine knows it; returns its path and content."""
    mark, token = root / "logs" / "mark.txt", secrets.token_hex(16)
    with replace_file(mark) as partial:
        partial.write_text(token, encoding="utf-8")
    return mark, token


class Beside:
    """Heavy stages in one pool, all others beside them in another.

    The others take seconds: on this machine they start from a warm process, and wait for no scheduler.
    """

    def __init__(self, heavy: Pool, light: Pool) -> None:
        self._heavy, self._light = heavy, light

    def _choose(self, name: str) -> Pool:
        return self._heavy if name.startswith(HEAVY) else self._light

    @property
    def count(self) -> int:
        """Of both."""
        return self._heavy.count + self._light.count

    def has_room(self, name: str) -> bool:
        """Whether the stage's pool has."""
        return self._choose(name).has_room(name)

    def start(self, name: str, command: str) -> None:
        """Start a stage in its pool."""
        self._choose(name).start(name, command)

    def collect(self) -> list[Ended]:
        """The stages that have ended in either."""
        return [*self._heavy.collect(), *self._light.collect()]

    def wait(self, seconds: float) -> None:
        """Sleep so long, or until a stage here may have ended."""
        self._light.wait(seconds)

    def send(self, number: int) -> None:
        """Send a signal to the stages of both."""
        self._heavy.send(number)
        self._light.send(number)

    def close(self) -> None:
        """Close both."""
        self._heavy.close()
        self._light.close()
