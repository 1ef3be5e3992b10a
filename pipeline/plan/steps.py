"""Whether dvc.yaml has all steps of the cases that params.yaml asks for; DVC would leave out what is not there."""

import re
from pathlib import Path

from pipeline.schema.base import SpecError, read_text
from pipeline.schema.panel import Panel

_STANZA = re.compile(r"^  (\w+):(.*?)(?=^  \w+:|\Z)", re.MULTILINE | re.DOTALL)
_GRID = re.compile(r"\$\{(\w+)\.(\w+)\.(?:more\.)?arms\}")


def check_steps(root: Path, panel: Panel) -> None:
    """Refuse a case of which another case of its study has a step more.

    Raises:
        SpecError: a stage is missing in dvc.yaml.
    """
    found: dict[str, dict[str, set[str]]] = {}  # by study and case: names of stages, with * for the case
    for name, body in _STANZA.findall(read_text(root / "dvc.yaml", "dvc.yaml")):
        for study, case in _GRID.findall(body):
            found.setdefault(study, {}).setdefault(case, set()).add(name.replace(case, "*"))
    for study, cases in panel.cases.items():
        needed = set().union(*found.get(study, {}).values())
        for case in cases:
            if missing := sorted(needed - found.get(study, {}).get(case, set())):
                names = ", ".join(name.replace("*", case) for name in missing)
                raise SpecError(f"dvc.yaml: {study} is to run on {case}, but has no stage {names}; copy another case's")
