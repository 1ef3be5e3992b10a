"""DVC's view of the project. No file outside this folder imports DVC's internals (3.67)."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.schema.base import SpecError
from pipeline.schema.mistakes import find_meant


@contextmanager
def open_repo(root: Path) -> Iterator[Any]:
    """Context manager: DVC's view of the project; its errors become one line.

    Raises:
        SpecError: DVC cannot read the project.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repo:
            yield repo
    except DvcException as error:
        said = str(error).splitlines()[0]
        if match := re.search("Stage '(.+)' not found", said):
            names = [stage.addressing for stage in repo.index.stages]
            known = sorted({*names, *(name.partition("@")[0] for name in names)})
            said = f"dvc.yaml: no stage {match[1]!r}{find_meant(match[1], known)}; `dvc stage list` names all"
            raise SpecError(said) from None
        raise SpecError(f"DVC: {said}") from None


def locate(out: Any) -> str:
    """Path of an output or dependency, as dvc.yaml has it."""
    return str(out.def_path)


def order_stages(graph: Any, stages: Iterable[Any]) -> list[Any]:
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
