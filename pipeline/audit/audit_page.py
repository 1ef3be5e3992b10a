"""An audit as one web page that needs nothing else: the network as a column of sites, coloured by what survives."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

import pipeline.report.webpage
from pipeline.audit.conclusion import conclude
from pipeline.audit.findings import Audit, SiteFacts
from pipeline.audit.screen import (
    LEVEL_HEADINGS,
    describe_behaviour,
    describe_embedding,
    describe_norm,
    describe_settings,
    list_levels,
    show_number,
)

_WEB = Path(__file__).parent / "web"
_STYLE = Path(pipeline.report.webpage.__file__).parent / "web" / "page.css"


def _list_rows(audit: Audit) -> Iterator[dict[str, Any]]:
    """The sites with what is shown of each."""
    for number, site in enumerate(audit.sites, 1):
        yield {
            "number": number,
            "site": site,
            "norm": describe_norm(site),
            "percent": None if site.survival is None else round(100 * min(site.survival, 1.0), 1),
            "shown": _say_survival(site),
            "facts": _list_facts(site),
        }


def _say_survival(site: SiteFacts) -> str:
    if site.norm is None:
        return "no norm behind"
    if site.survival is None:
        return "does not change"
    return f"{100 * site.survival:.3g} % survives"


def _list_facts(site: SiteFacts) -> list[tuple[str, str]]:
    return [
        ("meets", f"{site.shape} with {site.told}"),
        ("change before", show_number(site.change_before)),
        ("offset part", show_number(site.offset_part)),
        ("change behind", show_number(site.change_behind)),
        ("with G = C", show_number(site.survival_by_channel)),
    ]


def render_audit(audit: Audit) -> str:
    """The page: the same bytes for the same audit."""
    environment = Environment(
        loader=FileSystemLoader(_WEB), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    style = _STYLE.read_text(encoding="utf-8") + (_WEB / "audit.css").read_text(encoding="utf-8")
    return environment.get_template("audit.html").render(
        style=Markup(style),  # noqa: S704 - our own files
        audit=audit,
        rows=list(_list_rows(audit)),
        verdict=conclude(audit),
        embedding=[] if audit.embedding is None else describe_embedding(audit.embedding),
        behaviour=[] if audit.behaviour is None else describe_behaviour(audit.behaviour),
        headings=LEVEL_HEADINGS,
        levels=[] if audit.behaviour is None else list_levels(audit.behaviour),
        settings=describe_settings(audit),
    )
