"""What the plan and the recovery need of DVC's internals (3.67). No other file imports them.

`dvc status` and `dvc repro --dry` look at each stage as if none before it ran, and the dry run does not look into the
run-cache for a stage whose dependencies changed. So the stages are walked here in DVC's order, with what is known of
the outputs before them, and decided as `dvc repro` decides (`Stage.reproduce`, `StageCache.restore`). That writes
nothing to the workspace and takes no lock.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any, Literal

import psutil

from pipeline.schema.base import SpecError

Status = Literal["kept", "restored", "made"]
"""The output stays as it is; DVC fetches it from its cache; its stage runs."""
_CODE = "closures/"
_STEADY = "fetch"
"""Stages that give the same output again when only their code changed: data with a checksum."""


@contextmanager
def _open(root: Path) -> Iterator[Any]:
    """DVC's view of the project; its errors become one line."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repo:
            yield repo
    except DvcException as error:
        raise SpecError(f"DVC: {str(error).splitlines()[0]}") from None


# ---- What `dvc repro` would do -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Foreseen:
    """What `dvc repro` would do to a stage."""

    name: str
    status: Status
    outs: list[str]
    """Paths of its outputs."""
    changes: list[tuple[str, str | None, str | None]]
    """Dependencies that changed: path, and content then and now, where that is known and text."""


def foresee_stages(root: Path, targets: Collection[str], written: Mapping[str, str]) -> list[Foreseen]:
    """What `dvc repro` would do, stage by stage, in an order in which they can run.

    Args:
        targets: names of stages or paths of outputs, with all that they need; all of dvc.yaml if there are none.
        written: contents, by path, of the files that the stage `check` will write.

    Raises:
        SpecError: DVC cannot read the project, or knows no such target.
    """
    from dvc.repo.reproduce import collect_stages

    with _open(root) as repo:
        graph = repo.index.graph  # an edge leads to what is needed
        found = []
        known = _foresee(written)  # outputs as they will be, where that can be told
        unsettled = _list_folders(path for path, content in written.items() if _read_now(root, path, {}) != content)
        for stage in _order(graph, collect_stages(repo, targets or ["dvc.yaml"])):
            before = {_locate(out) for needed in graph.successors(stage) for out in needed.outs}
            changed = {
                _locate(dep): dep.hash_info
                for dep in stage.deps
                if (_locate(dep) in known or _locate(dep) not in before) and _is_changed(dep, known)
            }
            status, outs = _decide(stage, before, known, unsettled)
            known |= {_locate(out): out for out in outs}
            if status != "kept":
                unsettled |= _list_folders(_locate(out) for out in stage.outs)
            changes = [
                (path, _read_cached(repo, then), _read_now(root, path, written)) for path, then in changed.items()
            ]
            found.append(Foreseen(stage.addressing, status, [_locate(out) for out in stage.outs], changes))
        return found


def _read_now(root: Path, path: str, written: Mapping[str, str]) -> str | None:
    try:
        return written[path] if path in written else (root / path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _read_cached(repo: Any, info: Any) -> str | None:
    """Content that DVC's cache has of a file; None for settings, of which dvc.lock has the values and no hash."""
    if not info or isinstance(info.value, dict) or info.isdir:
        return None
    try:
        return Path(repo.cache.local.oid_to_path(info.value)).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def find_statuses(root: Path, paths: Collection[str], written: Mapping[str, str]) -> dict[str, Status]:
    """What `dvc repro` would do to the outputs at these paths, relative to the project's root.

    Args:
        written: contents, by path, of the files that the stage `check` will write.

    Raises:
        SpecError: DVC cannot read the project, or no stage has such an output.
    """
    statuses = {out: stage.status for stage in foresee_stages(root, (), written) for out in stage.outs}
    for path in paths:
        if path not in statuses:
            raise SpecError(f"dvc.yaml: no stage has the output {path}; does it have a stage for that case?")
    return {path: statuses[path] for path in paths}


def _foresee(written: Mapping[str, str]) -> dict[str, Any]:
    """Files as DVC will see them once they are written."""
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.meta import Meta

    found = {}
    for path, content in written.items():
        data = content.encode()
        digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
        found[path] = SimpleNamespace(hash_info=HashInfo("md5", digest), meta=Meta(size=len(data)))
    return found


def _locate(out: Any) -> str:
    """Path of an output or dependency, as dvc.yaml has it."""
    return str(out.def_path)


def _order(graph: Any, stages: Iterable[Any]) -> list[Any]:
    """The stages and all that they need, in an order in which they can run."""
    order: dict[Any, None] = {}

    def visit(stage: Any) -> None:
        if stage not in order:
            for needed in graph.successors(stage):
                visit(needed)
            order[stage] = None

    for stage in stages:
        visit(stage)
    return list(order)


def _list_folders(paths: Iterable[str]) -> set[str]:
    """All folders in which these files are."""
    return {folder.as_posix() for path in paths for folder in PurePosixPath(path).parents}


def _decide(stage: Any, before: set[str], known: dict[str, Any], unsettled: set[str]) -> tuple[Status, list[Any]]:
    """Status of a stage, and its outputs as far as they can be foretold.

    Args:
        before: outputs of the stages that come before it.
        known: those of them that can be foretold.
        unsettled: folders in which something will be written; what depends on one as a whole runs.
    """
    paths = {_locate(dep) for dep in stage.deps}
    if paths & before - known.keys() or paths & unsettled:
        return "made", []
    changed = [dep for dep in stage.deps if _is_changed(dep, known)]
    stale = stage.changed_stage() or bool(changed)
    if not stale and not any(out.changed() for out in stage.outs):
        return "kept", stage.outs
    if (found := _recall(stage, stale, known)) is not None:
        return "restored", found.outs
    steady = stage.name.startswith(_STEADY) and all(out.hash_info for out in stage.outs)
    if steady and all(_locate(dep).startswith(_CODE) for dep in changed):
        return "made", stage.outs
    return "made", []


def _is_changed(dep: Any, known: dict[str, Any]) -> bool:
    """Whether a dependency will differ from what dvc.lock says."""
    out = known.get(_locate(dep))
    return bool(dep.changed() if out is None else dep.hash_info != out.hash_info)


def _recall(stage: Any, stale: bool, known: dict[str, Any]) -> Any | None:
    """A stage made of what dvc.lock or the run-cache says about these dependencies, if its outputs are in the cache."""
    from dvc.stage.cache import _get_cache_hash
    from dvc.stage.serialize import to_single_stage_lockfile

    cache = stage.repo.stage_cache
    if not stale and all(out.hash_info for out in stage.outs):
        entry = to_single_stage_lockfile(stage)
    else:
        for dep in stage.deps:
            if (out := known.get(_locate(dep))) is None:
                dep.save()  # in memory: the dependency as it is now
            else:
                dep.hash_info, dep.meta = out.hash_info, out.meta
        key = _get_cache_hash(to_single_stage_lockfile(stage), key=True)
        folder = Path(cache._get_cache_dir(key))
        entries = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime) if folder.is_dir() else []
        entry = cache._load_cache(key, entries[-1].name) if entries else None
    if entry is None:
        return None
    recalled = cache._create_stage(entry, wdir=stage.wdir)
    return recalled if recalled.outs_cached() else None


# ---- What a killed DVC leaves behind -------------------------------------------------------------------------------


@contextmanager
def hold_project(root: Path) -> Iterator[bool]:
    """Context manager: keeps other commands of DVC's out, and drops the locks of dead ones; False: one is at work.

    Raises:
        SpecError: there is no DVC project.
    """
    from dvc.lock import LockError, make_lock

    with _open(root) as repo:
        folder = Path(repo.tmp_dir)
        try:
            repo.lock.lock()
        except LockError:
            yield False
            return
        try:
            hardlink = repo.config["core"].get("hardlink_lock", False)
            with make_lock(str(folder / "rwlock.lock"), tmp_dir=str(folder), hardlink_lock=hardlink):
                drop_stale_locks(folder / "rwlock")
            yield True
        finally:
            repo.lock.unlock()


def _is_alive(holder: dict[str, Any]) -> bool:
    """Whether a process that holds a path still runs: after a reboot or in a container, its number may be another's."""
    try:
        return " ".join(psutil.Process(int(holder["pid"])).cmdline()).endswith(str(holder["cmd"]))
    except psutil.Error:
        return False


def is_busy(path: Path) -> bool:
    """Whether DVC's list of busy paths names a process that still runs; False if the list was cut off."""
    try:
        busy = json.loads(path.read_text(encoding="utf-8"))
        holders = [*busy["write"].values(), *(holder for each in busy["read"].values() for holder in each)]
        return any(map(_is_alive, holders))
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return False


def drop_stale_locks(path: Path) -> None:
    """Remove DVC's list of busy paths, which names processes by number alone, if it was cut off or all in it died."""
    if path.exists() and not is_busy(path):
        path.unlink()


def read_lock(content: bytes) -> dict[str, Any] | None:
    """The stages of a dvc.lock; None if DVC cannot read it."""
    from dvc.dvcfile import Lockfile
    from dvc.utils.serialize import ParseError, parse_yaml
    from dvc.utils.strictyaml import YAMLValidationError

    try:
        return dict(Lockfile.validate(parse_yaml(content.decode(), "dvc.lock")).get("stages", {}))
    except (UnicodeDecodeError, ParseError, YAMLValidationError):
        return None


def write_lock(stages: Mapping[str, Any]) -> str:
    """The content of a dvc.lock with these stages."""
    from dvc.utils.serialize import dumps_yaml

    return str(dumps_yaml({"schema": "2.0", "stages": dict(stages)}))


# ---- Running stages beside DVC -------------------------------------------------------------------------------------

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
        self._stages = {stage.addressing: stage for stage in _order(self._graph, wanted)}
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
                    raise StageError(f"{name}: {_locate(dep)} was edited while it ran: its result is not recorded")
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
def _alone() -> Iterator[None]:
    """Context manager: DVC keeps no list of busy paths, six writes of a file a stage, as nobody else is at work."""
    import dvc.rwlock

    keep = dvc.rwlock.rwlock
    dvc.rwlock.rwlock = lambda *_, **__: nullcontext()
    try:
        yield
    finally:
        dvc.rwlock.rwlock = keep


@contextmanager
def open_session(root: Path, targets: Collection[str]) -> Iterator[Session]:
    """Context manager: the project, which no other command of DVC's can use meanwhile.

    Raises:
        SpecError: DVC cannot read the project, knows no such target, or another command is at work in it.
    """
    from dvc.lock import LockError

    at_work = f"{root}: another `dvc` or `pipeline run` is at work here; wait for its end"
    with _open(root) as repo:
        try:
            repo.lock.lock()
        except LockError:
            raise SpecError(at_work) from None
        try:
            if is_busy(Path(repo.tmp_dir) / "rwlock"):  # a `dvc repro` lets go of the lock while its stage runs
                raise SpecError(at_work)
            with _alone():
                session = Session(repo, targets)
                try:
                    yield session
                finally:
                    session.flush()
        finally:
            repo.lock.unlock()
