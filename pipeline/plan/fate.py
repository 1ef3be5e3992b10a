"""What `dvc repro` would do to each output: keep, restore or make it. The one file that knows DVC's internals (3.67).

`dvc status` and `dvc repro --dry` look at each stage as if none before it ran, and the dry run does not look into the
run-cache for a stage whose dependencies changed. So the stages are walked here in DVC's order, with what is known of
the outputs before them, and judged as `dvc repro` judges them (`Stage.reproduce`, `StageCache.restore`). Nothing is
written to the workspace and no lock is taken.
"""

import hashlib
from collections.abc import Collection, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

from pipeline.run.closures import closure_path, describe_closures
from pipeline.schema.base import SpecError

Fate = Literal["kept", "restored", "made"]
"""The output stays as it is; DVC fetches it from its cache; its stage runs."""

_STEADY = ("fetch_node", "fetch_ddpm")
"""Stages that give the same output again when only their code changed: data with a checksum."""


def find_fates(root: Path, paths: Collection[str]) -> dict[str, Fate]:
    """Fate of the outputs at these paths, relative to the project's root.

    Raises:
        SpecError: DVC cannot read the project; or no stage has such an output.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repo:
            return _find_fates(repo, paths)
    except DvcException as error:
        raise SpecError(f"DVC: {str(error).splitlines()[0]}") from None


def _find_fates(repo: Any, paths: Collection[str]) -> dict[str, Fate]:
    graph = repo.index.graph
    stages = {_locate(out): stage for stage in graph for out in stage.outs}
    for path in paths:
        if path not in stages:
            raise SpecError(f"dvc.yaml: no stage has the output {path}; does its group of {path.split('/')[0]} exist?")
    fates: dict[Any, Fate] = {}
    known = _foresee_closures(Path(repo.root_dir))  # outputs as they will be, where that can be foretold
    for stage in _order(graph, [stages[path] for path in paths]):
        before = {_locate(out) for needed in graph.successors(stage) for out in needed.outs}
        fates[stage], outs = _judge(stage, before, known)
        known |= {_locate(out): out for out in outs}
    return {path: fates[stages[path]] for path in paths}


def _foresee_closures(root: Path) -> dict[str, Any]:
    """What the stage `check` will write for each stage to depend on."""
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.meta import Meta

    outs = {}
    for stage, content in describe_closures(root).items():
        data = content.encode()
        digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
        outs[closure_path(stage).as_posix()] = SimpleNamespace(
            hash_info=HashInfo("md5", digest), meta=Meta(size=len(data))
        )
    return outs


def _locate(out: Any) -> str:
    """Path of an output or dependency, as dvc.yaml has it."""
    return str(out.def_path)


def _order(graph: Any, stages: Iterable[Any]) -> list[Any]:
    """The stages and all that they need, in an order in which they can run; an edge leads to what is needed."""
    order: dict[Any, None] = {}

    def visit(stage: Any) -> None:
        if stage not in order:
            for needed in graph.successors(stage):
                visit(needed)
            order[stage] = None

    for stage in stages:
        visit(stage)
    return list(order)


def _judge(stage: Any, before: set[str], known: dict[str, Any]) -> tuple[Fate, list[Any]]:
    """Fate of a stage, and its outputs as far as they can be foretold.

    Args:
        before: outputs of the stages that come before it.
        known: those of them that can be foretold.
    """
    if any(_locate(dep) in before and _locate(dep) not in known for dep in stage.deps):
        return "made", []
    changed = [dep for dep in stage.deps if _is_changed(dep, known)]
    stale = stage.changed_stage() or bool(changed)
    if not stale and not any(out.changed() for out in stage.outs):
        return "kept", stage.outs
    if (found := _recall(stage, stale, known)) is not None:
        return "restored", found.outs
    steady = stage.name.split("@")[0] in _STEADY and all(out.hash_info for out in stage.outs)
    if steady and not any(dep.hash_name == "params" for dep in changed):
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
