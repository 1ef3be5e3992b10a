"""Runs stages beside DVC: it holds the project, and records what was run as `dvc repro` would."""

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal

from pipeline.plan.dvc.locks import is_busy
from pipeline.plan.dvc.repo import locate, open_repo, order_stages
from pipeline.schema.base import SpecError

Outcome = Literal["kept", "restored", "run"]
"""The outputs are up to date; they came from the cache; the stage must run."""


class StageError(RuntimeError):
    """A stage's result cannot be recorded."""


class Session:
    """DVC's project, held by this process alone: which stages run, and what DVC records of them.

    What it does to a stage is what `dvc repro` does (`Stage.run`), but for the command, which runs elsewhere, and for
    dvc.lock, which is written for many stages at once.
    """

    def __init__(self, repo: Any, targets: Collection[str]) -> None:
        from dvc.repo.reproduce import collect_stages, get_active_graph

        self._graph = get_active_graph(repo.index.graph)  # an edge leads to what is needed
        wanted = collect_stages(repo, targets) if targets else list(repo.index.stages)
        self._stages = {stage.addressing: stage for stage in order_stages(self._graph, wanted)}
        self._before: dict[str, list[Any]] = {}
        self._unwritten: list[Any] = []

    def list_needs(self) -> dict[str, set[str]]:
        """The stages, in an order in which they can run, each with those that it needs."""
        return {
            name: {needed.addressing for needed in self._graph.successors(stage)}
            for name, stage in self._stages.items()
        }

    def find_command(self, name: str) -> str:
        """The command of a stage, and empty if it has none."""
        return str(self._stages[name].cmd or "")

    def list_changes(self, name: str) -> list[str]:
        """Dependencies and outputs of a stage that dvc.lock has otherwise, and words such as "changed command"."""
        with _tell(name):
            parts = self._stages[name].status().get(name, [])
        # DVC says {"changed deps": {path: how}} and the like, or a word.
        paths = [path for part in parts if isinstance(part, dict) for found in part.values() for path in found]
        return [*paths, *(part for part in parts if not isinstance(part, dict))]

    def keep(self, name: str) -> None:
        """Record the outputs that are in place as those of the present dependencies, as `dvc commit` does.

        Raises:
            StageError: an output is not there.
        """
        with _tell(name):
            self._record(self._stages[name])

    def prepare(self, name: str) -> Outcome:
        """Find out whether a stage must run; if so, remove its outputs and note its dependencies.

        Raises:
            StageError: a dependency is not there.
        """
        from dvc.stage.cache import RunCacheNotFoundError

        stage = self._stages[name]
        with _tell(name):
            if not stage.changed():
                return "kept"
            stage.remove_outs(ignore_remove=False, force=False)
            try:
                stage.repo.stage_cache.restore(stage)
            except RunCacheNotFoundError:
                stage.save_deps()
                self._before[name] = [dep.hash_info for dep in stage.deps]
                return "run"
            self._record(stage)
            return "restored"

    def finish(self, name: str) -> None:
        """Record the outputs of a stage that ran: in the cache now, in dvc.lock with `flush`.

        Raises:
            StageError: an output is not there, or a dependency was edited while the stage ran.
        """
        stage = self._stages[name]
        with _tell(name):
            stage.save_deps()
            for dep, before in zip(stage.deps, self._before.pop(name), strict=True):
                if dep.hash_info != before:
                    raise StageError(f"{name}: {locate(dep)} was edited while it ran: its result is not recorded")
            self._record(stage)

    def _record(self, stage: Any) -> None:
        bare = any(not out.use_cache for out in stage.outs if not (out.is_metric or out.is_plot))
        stage.save(run_cache=not bare)
        stage.commit()
        self._unwritten.append(stage)

    def flush(self) -> None:
        """Write what was recorded to dvc.lock."""
        if self._unwritten:
            self._unwritten[0].dvcfile.dump_stages(self._unwritten, update_pipeline=False)
            self._unwritten.clear()


@contextmanager
def _tell(name: str) -> Iterator[None]:
    """DVC's errors about a stage, in one line."""
    from dvc.exceptions import DvcException

    try:
        yield
    except (DvcException, OSError) as error:
        raise StageError(f"{name}: {str(error).splitlines()[0]}") from None


@contextmanager
def _alone(repo: Any) -> Iterator[None]:
    """Context manager: DVC keeps no list of busy paths, six writes of a file a stage, as nobody else is at work.

    It asks Git once what is tracked, not for every output. Nor does it say of each stage that it came from the cache:
    the driver counts them.
    """
    import dvc.rwlock
    from dvc.scm import Git

    keep, logger = dvc.rwlock.rwlock, logging.getLogger("dvc")
    level = logger.level
    dvc.rwlock.rwlock = lambda *_, **__: nullcontext()
    logger.setLevel(logging.WARNING)
    if isinstance(repo.scm, Git):
        index = repo.scm.dulwich.repo.open_index()
        repo.scm.dulwich.repo.open_index = lambda: index
    try:
        yield
    finally:
        dvc.rwlock.rwlock = keep
        logger.setLevel(level)


@contextmanager
def open_session(root: Path, targets: Collection[str]) -> Iterator[Session]:
    """Context manager: the project, which no other command of DVC's can use meanwhile.

    Raises:
        SpecError: DVC cannot read the project, knows no such target, or another command is at work in it.
    """
    from dvc.lock import LockError

    at_work = f"{root}: another `dvc` or `pipeline run` is at work here; wait for its end"
    with open_repo(root) as repo:
        try:
            repo.lock.lock()
        except LockError:
            raise SpecError(at_work) from None
        try:
            if is_busy(Path(repo.tmp_dir) / "rwlock"):  # a `dvc repro` lets go of the lock while its stage runs
                raise SpecError(at_work)
            with _alone(repo):
                session = Session(repo, targets)
                try:
                    yield session
                finally:
                    session.flush()
        finally:
            repo.lock.unlock()
