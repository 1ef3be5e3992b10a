"""What `dvc repro` would do.

`dvc status` and `dvc repro --dry` look at each stage as if none before it ran, and the dry run does not look into the
run-cache for a stage whose dependencies changed. So the stages are walked here in DVC's order, with what is known of
the outputs before them, and decided as `dvc repro` decides (`Stage.reproduce`, `StageCache.restore`). That writes
nothing to the workspace and takes no lock.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any, Literal

from pipeline.plan.dvc.repo import locate, open_repo, order_stages
from pipeline.schema.base import SpecError

Status = Literal["kept", "restored", "made"]
"""The output stays as it is; DVC fetches it from its cache; its stage runs."""
_CODE = "closures/"
_STEADY = "fetch"
"""Stages that give the same output again when only their code changed: data with a checksum."""


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

    with open_repo(root) as repo:
        graph = repo.index.graph  # an edge leads to what is needed
        found = []
        known = _foresee(written)  # outputs as they will be, where that can be told
        unsettled = _list_folders(path for path, content in written.items() if _read_now(root, path, {}) != content)
        for stage in order_stages(graph, collect_stages(repo, targets or ["dvc.yaml"])):
            before = {locate(out) for needed in graph.successors(stage) for out in needed.outs}
            changed = {
                locate(dep): dep.hash_info
                for dep in stage.deps
                if (locate(dep) in known or locate(dep) not in before) and _is_changed(dep, known)
            }
            status, outs = _decide(stage, before, known, unsettled)
            known |= {locate(out): out for out in outs}
            if status != "kept":
                unsettled |= _list_folders(locate(out) for out in stage.outs)
            changes = [
                (path, _read_cached(repo, then), _read_now(root, path, written)) for path, then in changed.items()
            ]
            found.append(Foreseen(stage.addressing, status, [locate(out) for out in stage.outs], changes))
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
    paths = {locate(dep) for dep in stage.deps}
    if paths & before - known.keys() or paths & unsettled:
        return "made", []
    changed = [dep for dep in stage.deps if _is_changed(dep, known)]
    stale = stage.changed_stage() or bool(changed)
    if not stale and not any(out.changed() for out in stage.outs):
        return "kept", stage.outs
    if (found := _recall(stage, stale, known)) is not None:
        return "restored", found.outs
    steady = stage.name.startswith(_STEADY) and all(out.hash_info for out in stage.outs)
    if steady and all(locate(dep).startswith(_CODE) for dep in changed):
        return "made", stage.outs
    return "made", []


def _is_changed(dep: Any, known: dict[str, Any]) -> bool:
    """Whether a dependency will differ from what dvc.lock says."""
    out = known.get(locate(dep))
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
            if (out := known.get(locate(dep))) is None:
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
