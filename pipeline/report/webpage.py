"""The report as one web page that needs nothing else: tables, charts, samples, the configuration of every run."""

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markupsafe import Markup, escape

from pipeline.report.claims import VERDICTS, Judged, Page, Verdict
from pipeline.report.costs import Books
from pipeline.report.glyphs import HEIGHT, WIDTH, draw_glyph
from pipeline.report.schematic import Schematic
from pipeline.report.vega import bundle_library
from pipeline.report.verdicts import show_outcome
from pipeline.report.views import Section
from pipeline.schema.arm import BASELINE
from pipeline.schema.base import flatten
from pipeline.schema.claim import Claim
from pipeline.schema.ledger import Entry
from pipeline.schema.record import Failure, Record
from pipeline.schema.study import Run

_WEB = Path(__file__).parent / "web"


@dataclass(frozen=True)
class Sample:
    """Images of one model."""

    case: str
    arm: str
    seed: int
    png: bytes
    note: str
    levels: str = ""
    """Of a trajectory's columns; empty where the training failed."""


@dataclass(frozen=True)
class Contents:
    """All that the page shows."""

    claims: Sequence[Claim]
    pages: Sequence[Page]
    sections: Sequence[Section]
    samples: Sequence[Sample]
    runs: Sequence[tuple[Run, Record | Failure | None]]
    headlines: Mapping[str, str]
    """By study, the key of a record that stands for it."""
    books: Books
    """What made them."""
    lead: int = 0
    """How many sections come before the verdicts."""
    front: Collection[str] = ()
    """Of these, the ids of those on the first screen."""
    trajectories: Sequence[Sample] = ()
    schematics: Sequence[Schematic] = ()


class _Renderer(RendererHTML):
    """Tables that scroll by themselves, can be reached by keyboard, and say what their headers head."""

    def table_open(self, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        return '<div class="scroll" role="region" aria-label="Table" tabindex="0"><table>'

    def table_close(self, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        return "</table></div>"

    def th_open(self, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
        tokens[index].attrSet("scope", "col")
        return self.renderToken(tokens, index, options, env)


_MARKDOWN = MarkdownIt("commonmark", {"html": False}, renderer_cls=_Renderer).enable("table")


def convert(markdown: str) -> Markup:
    """Markdown to HTML; HTML within it is text."""
    return Markup(_MARKDOWN.render(markdown))  # noqa: S704 - it escapes


def convert_line(markdown: str) -> Markup:
    """A line of Markdown, without a paragraph around it."""
    return Markup(_MARKDOWN.renderInline(markdown))  # noqa: S704


def show_math(text: str) -> Markup:
    """Plain text as HTML, with `_t` as a subscript."""
    return Markup(str(escape(text)).replace("_t", "<sub>t</sub>"))  # noqa: S704 - escaped


def show_name(text: str) -> Markup:
    """A dotted name, with a slice or without, as HTML that may be broken behind dots and before the slice."""
    return Markup(str(escape(text)).replace(".", ".<wbr>").replace("[", "<wbr>[").replace(" ", "&nbsp;"))  # noqa: S704 - escaped


def _embed(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _list_comparisons(page: Page, claim: Claim) -> list[dict[str, str]]:
    names = ("comparison", "verdict", "effect", "interval", "n", "paper")
    outcomes = page.judged[claim.id].outcomes
    return [dict(zip(names, show_outcome("", outcome, with_paper=True)[1:], strict=True)) for outcome in outcomes]


def _find_decisive(judged: Judged) -> int:
    """The first comparison that says what the claim's verdict says."""
    return next((index for index, outcome in enumerate(judged.outcomes) if outcome.verdict == judged.verdict), 0)


def _judge(contents: Contents) -> list[dict[str, Any]]:
    """The claims with a verdict and its comparisons for each case."""
    found = []
    for claim in contents.claims:
        cases = [
            {
                "title": page.panel.title,
                "verdict": page.judged[claim.id].verdict,
                "comparisons": _list_comparisons(page, claim),
                "decisive": _find_decisive(page.judged[claim.id]),
            }
            for page in contents.pages
            if claim.id in page.judged
        ]
        found.append({"id": claim.id, "statement": claim.statement, "source": claim.source, "cases": cases})
    return found


def _count_verdicts(pages: Iterable[Page]) -> Mapping[Verdict, int]:
    verdicts = [judged.verdict for page in pages for judged in page.judged.values()]
    return {verdict: verdicts.count(verdict) for verdict in VERDICTS}


def _say_made(entry: Entry) -> str:
    """What is known of how an output was made."""
    facts = {
        "": None if entry.seconds is None else f"{entry.seconds:.0f} s",
        "on ": entry.device,
        "torch ": entry.torch,
        "code ": entry.git,
        "at ": entry.finished,
    }
    known = [f"{word}{value}" for word, value in facts.items() if value is not None]
    return f"{entry.step}: {', '.join(known)}" if known else entry.step


def _describe_run(run: Run, record: Record | Failure | None, headline: str, entries: Sequence[Entry]) -> dict[str, Any]:
    shown = ""
    if isinstance(record, Failure):
        shown = f"epoch {record.epoch}: {record.reason}"
    elif record is not None:
        value = getattr(record, headline)
        shown = "" if value is None else f"{headline} {value:.4g}"
    return {
        "seed": run.seed,
        "status": "missing" if record is None else record.status,
        "shown": shown,
        "made": [{"text": _say_made(entry), "output": entry.output} for entry in entries],
    }


def _describe_configuration(run: Run, baseline: Run | None) -> str:
    """What a run is made of, but for its seed: of the baseline's own all, as JSON; of others what differs from it."""
    if baseline is None or run.arm == BASELINE:
        return json.dumps(run.model_dump(exclude={"seed"}), indent=1)
    known = flatten(baseline.model_dump(exclude={"seed", "arm"}))
    fields = flatten(run.model_dump(exclude={"seed", "arm"}))
    changed = [f"{key}: {json.dumps(value)}" for key, value in fields.items() if (key, value) not in known.items()]
    return "\n".join([f"as {BASELINE}, but", *changed])


def _describe_arms(contents: Contents) -> Iterator[dict[str, Any]]:
    """The runs by arm: its seeds, and what they have in common."""
    baselines = {(run.study, run.case): run for run, _ in reversed(contents.runs) if run.arm == BASELINE}
    for (study, case, arm), found in groupby(contents.runs, lambda one: (one[0].study, one[0].case, one[0].arm)):
        runs = list(found)
        yield {
            "study": study,
            "case": case,
            "arm": arm,
            "runs": [
                _describe_run(run, record, contents.headlines[study], contents.books.get(_find_key(run), ()))
                for run, record in runs
            ],
            "configuration": _describe_configuration(runs[0][0], baselines.get((study, case))),
        }


def _find_key(run: Run) -> tuple[str, str, str, int]:
    """Of its entries in the books."""
    return run.study, run.case, run.arm, run.seed


def _hash_records(contents: Contents) -> str:
    """One digest over all records: pages that show the same numbers have the same."""
    digest = hashlib.sha256()
    for run, record in contents.runs:
        digest.update(f"{run.name} ".encode())
        digest.update(b"" if record is None else record.model_dump_json().encode())
    return digest.hexdigest()


def _read_web(name: str) -> str:
    return (_WEB / name).read_text(encoding="utf-8")


def _draw_glyphs(schematics: Sequence[Schematic]) -> dict[str, list[tuple[str, float]]]:
    """The shapes that branches have, each once."""
    rows = [row for schematic in schematics for diagram in schematic.diagrams for row in diagram.rows]
    return {axes: draw_glyph(axes) for axes in sorted({row.axes for row in rows if row.branch is not None})}


def render_webpage(contents: Contents) -> str:
    """The page: the same bytes for the same contents."""
    environment = Environment(
        loader=FileSystemLoader(_WEB), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"markdown": convert, "line": convert_line, "math": show_math, "name": show_name}
    drawings = {
        drawing.id: drawing.chart | {"description": drawing.title}
        for section in contents.sections
        for drawing in section.drawings
    }
    return environment.get_template("page.html").render(
        style=Markup("".join(_read_web(name) for name in ("page.css", "schematic.css"))),  # noqa: S704 - our own files
        library=Markup(bundle_library()),  # noqa: S704
        script=Markup(_read_web("page.js")),  # noqa: S704
        claims=_judge(contents),
        counts=_count_verdicts(contents.pages),
        panels=[page.panel for page in contents.pages],
        embedded=any(page.panel.scale == "embedded" for page in contents.pages),
        schematics=contents.schematics,
        glyphs=_draw_glyphs(contents.schematics),
        glyph_size=(WIDTH, HEIGHT),
        sections=contents.sections,
        lead=contents.lead,
        front=contents.front,
        drawings=drawings,
        samples=[{"image": _embed(sample.png, "image/png"), "of": sample} for sample in contents.samples],
        trajectories=[{"image": _embed(one.png, "image/png"), "of": one} for one in contents.trajectories],
        pictures={
            drawing.id: _embed(drawing.static.encode(), "image/svg+xml")
            for section in contents.sections
            for drawing in section.drawings
        },
        arms=list(_describe_arms(contents)),
        statuses=Counter("missing" if record is None else record.status for _, record in contents.runs),
        digest=_hash_records(contents),
    )
