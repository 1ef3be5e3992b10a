"""How the numbers of a table came about; what is a study's own is in its folder."""

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

from pipeline.schema.arm import list_parts
from pipeline.schema.project import Project
from pipeline.schema.record import Record
from pipeline.schema.study import spec_file


def show_shared(values: Sequence[object]) -> str:
    """The one value that all records have; where they disagree, all of them, marked as mixed."""
    shown = sorted({str(value) for value in values})
    return shown[0] if len(shown) == 1 else f"(mixed: {', '.join(shown)})"


def show_key(records: Sequence[Record], key: str) -> str:
    """The same of a key, or of a key within a part of the record: `protocol.images`."""
    return show_shared([attrgetter(key)(record) for record in records])


def describe_baseline(project: Project, study: str, case: str) -> list[str]:
    """How a case's baseline differs from the study's base, and the rest of its settings; as specs/ has them."""
    run, spec, lines = project.baseline(study, case), project.specs[study], []
    for part, model in list_parts(type(run)).items():
        values = getattr(run, part).model_dump()
        if part not in spec.base:
            lines.append(f"{part}: {_list_fields(values)}")
            continue
        base = {name: field.get_default(call_default_factory=True) for name, field in model.model_fields.items()}
        base |= spec.base[part]
        differing = {key: value for key, value in values.items() if value != base[key]}
        what = f", with {_list_fields(differing)}" if differing else ", unchanged"
        lines.append(f"baseline's {part}: the base of {spec_file(study)} ({spec.source}){what}")
    return lines


def _list_fields(values: Mapping[str, Any]) -> str:
    """Fields and values on one line."""
    return ", ".join(f"{key} {value}" for key, value in values.items())
