"""The report as one web page that needs nothing else: tables, charts, samples, the configuration of every run."""

import base64
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markupsafe import Markup, escape

from pipeline.report import glyphs, strip
from pipeline.report.claims import Judged, Outcome, Page, Verdict, sort_claims
from pipeline.report.costs import Books
from pipeline.report.glyphs import draw_glyph
from pipeline.report.schematic import Schematic
from pipeline.report.strip import lay_out_strip
from pipeline.report.vega import bundle_library
from pipeline.report.verdicts import show_outcome
from pipeline.report.views import TITLE, Section
from pipeline.schema.arm import BASELINE
from pipeline.schema.base import flatten
from pipeline.schema.claim import Claim
from pipeline.schema.ledger import Entry
from pipeline.schema.record import Failure, Record
from pipeline.schema.study import Run, Story

_WEB = Path(__file__).parent / "web"
_DOUBT: tuple[Verdict, ...] = ("fails", "undecided", "too few seeds", "not run", "holds")
"""Order of the claims on the page."""
_SAFE = " ='/:;,()!*@?[]{}|^~"
"""Beside letters and digits, what may stand as it is in the address of a picture."""
_DIGITS = re.compile(r"(\d\.\d\d)\d+")


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
class Chapter:
    """A study on the page."""

    study: str
    title: str
    source: str
    """What it follows."""
    story: Story | None
    claims: Sequence[Claim]
    main: Section | None
    """Its main figure is the first of this section's charts."""
    figures: Sequence[Section] = ()
    """Further ones with charts."""
    tables: Sequence[Section] = ()
    """Those without."""

    @property
    def id(self) -> str:
        """A view may have the study's own name."""
        return f"study-{self.study}"

    @property
    def sections(self) -> list[Section]:
        """All of them, in the order of the page."""
        return [*([self.main] if self.main else []), *self.figures, *self.tables]


@dataclass(frozen=True)
class Contents:
    """All that the page shows."""

    pages: Sequence[Page]
    chapters: Sequence[Chapter]
    samples: Sequence[Sample]
    runs: Sequence[tuple[Run, Record | Failure | None]]
    headlines: Mapping[str, str]
    """By study, the key of a record that stands for it."""
    books: Books
    """What made them."""
    front: Sequence[Section] = ()
    """On the first screen."""
    missing: Sequence[Section] = ()
    """What params.yaml asks for and is not there; none where all is."""
    others: Sequence[Section] = ()
    """About all studies."""
    trajectories: Sequence[Sample] = ()
    schematics: Sequence[Schematic] = ()

    @property
    def sections(self) -> list[Section]:
        """All of them."""
        told = [section for chapter in self.chapters for section in chapter.sections]
        return [*self.front, *self.missing, *told, *self.others]


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


def _embed(data: bytes) -> str:
    """A PNG as the address of a picture."""
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def _embed_svg(svg: str) -> str:
    """The same of an SVG, as short as it can be; coordinates to hundredths of a pixel."""
    attributes = re.compile(r' (?:d|transform|x|y|width|height|[xy][12])="[^"]*"')
    short = attributes.sub(lambda found: _DIGITS.sub(r"\1", found[0]), svg)
    return f"data:image/svg+xml,{quote(short, safe=_SAFE)}"


def _say_elsewhere(outcome: Outcome) -> str:
    """The paper's effect, on a case of its own."""
    assert outcome.elsewhere is not None
    case, effect = outcome.elsewhere
    return f"{effect:+.{outcome.part.digits}f} ({case})"


def _list_comparisons(claim: Claim, page: Page) -> list[dict[str, Any]]:
    """Of a claim on a case, as cells."""
    names = ("claim", "comparison", "verdict", "effect", "interval", "n", "paper")
    outcomes = page.judged[claim.id].outcomes
    return [
        dict(zip(names, show_outcome(claim.id, outcome, with_paper=True), strict=True))
        | {"key": outcome.part.key, "strip": lay_out_strip(outcome)}
        | ({} if outcome.elsewhere is None else {"paper": _say_elsewhere(outcome)})
        for outcome in outcomes
    ]


def _find_decisive(judged: Judged) -> int:
    """The first comparison that says what the claim's verdict says."""
    return next((index for index, outcome in enumerate(judged.outcomes) if outcome.verdict == judged.verdict), 0)


def _judge(contents: Contents) -> list[dict[str, Any]]:
    """A row a claim and case, with its comparisons: first what does not hold, each in the order of the studies."""
    found = []
    for chapter in contents.chapters:
        for claim in chapter.claims:
            for page in (page for page in contents.pages if claim.id in page.judged):
                comparisons, judged = _list_comparisons(claim, page), page.judged[claim.id]
                found.append(
                    {
                        "anchor": f"claim-{claim.id}-{page.panel.case}",
                        "study": chapter.study,
                        "claim": claim,
                        "panel": page.panel,
                        "verdict": judged.verdict,
                        "comparisons": comparisons,
                        "decisive": comparisons[_find_decisive(judged)],
                    }
                )
    return sorted(found, key=lambda row: _DOUBT.index(row["verdict"]))


def _count_verdicts(contents: Contents) -> Mapping[Verdict, int]:
    claims = [claim for chapter in contents.chapters for claim in chapter.claims]
    return {verdict: len(found) for verdict, found in sort_claims(claims, contents.pages).items()}


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
        title=TITLE,
        claims=_judge(contents),
        counts=_count_verdicts(contents),
        embedded=any(page.panel.scale == "embedded" for page in contents.pages),
        schematics=contents.schematics,
        glyphs=_draw_glyphs(contents.schematics),
        glyph_size=(glyphs.WIDTH, glyphs.HEIGHT),
        strip_size=(strip.WIDTH, strip.HEIGHT),
        front=contents.front,
        missing=contents.missing,
        chapters=contents.chapters,
        others=contents.others,
        drawings=drawings,
        samples=[{"image": _embed(sample.png), "of": sample} for sample in contents.samples],
        trajectories=[{"image": _embed(one.png), "of": one} for one in contents.trajectories],
        pictures={
            drawing.id: _embed_svg(drawing.static) for section in contents.sections for drawing in section.drawings
        },
        arms=list(_describe_arms(contents)),
        statuses=Counter("missing" if record is None else record.status for _, record in contents.runs),
        digest=_hash_records(contents),
    )
