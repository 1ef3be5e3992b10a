"""An audit in a terminal."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.audit.conclusion import conclude
from pipeline.audit.findings import Audit, Behaviour, EmbeddingFacts, Interval, SiteFacts

_HEADINGS = ("change before", "offset part", "change behind", "survives", "with G = C")
LEVEL_HEADINGS = ("true time", "told right", "shuffled", "fixed")


def show_number(value: float | None) -> str:
    """Three digits; exact zeros as 0; nothing known as a dash."""
    if value is None:
        return "—"
    return "0" if value == 0 else f"{value:.3g}"


def describe_norm(site: SiteFacts) -> str:
    """The norm behind a site."""
    if site.norm is None:
        return "none"
    groups = "" if site.norm.groups is None else f", {site.norm.groups} groups"
    return f"{site.norm.kind}{groups}{', and a skip' if site.passes else ''}"


def list_cells(site: SiteFacts) -> list[str]:
    """The numbers of a site, under `_HEADINGS`."""
    cells = map(
        show_number, (site.change_before, site.offset_part, site.change_behind, site.survival, site.survival_by_channel)
    )
    return list(cells)


def _colour(survival: float | None) -> str:
    if survival is None:
        return "default"
    return "red" if survival < 0.05 else "yellow" if survival < 0.5 else "green"


def draw_sites(audit: Audit) -> Table:
    """The sites from input to output."""
    drawing = Table(
        title=f"{escape(audit.network)}, time: {escape(audit.time)}", title_justify="left", title_style="bold"
    )
    for heading in ("site", "enters", "norm behind"):
        drawing.add_column(heading, overflow="fold")
    for heading in _HEADINGS:
        drawing.add_column(heading, justify="right")
    for site in audit.sites:
        before, offset, behind, survival, by_channel = list_cells(site)
        shown = f"[{_colour(site.survival)}]{survival}[/]"
        drawing.add_row(escape(site.name), site.kind, describe_norm(site), before, offset, behind, shown, by_channel)
    return drawing


def describe_embedding(embedding: EmbeddingFacts) -> list[tuple[str, str]]:
    """The embedding's facts, with a name each."""
    rows = [
        ("features of the first embedding", str(embedding.width)),
        ("its effective rank", f"{show_number(embedding.rank)} over {embedding.times} times"),
        ("effective rank of what reaches the sites", show_number(embedding.site_rank)),
        ("least relative change between neighbours", show_number(embedding.least_change)),
        ("times with an embedding of their own", f"{embedding.distinct} of {embedding.times}"),
    ]
    if embedding.saturated is not None:
        rows.append(("saturated tanh and sigmoid", f"{100 * embedding.saturated:.3g} %"))
    return rows + [(f"given as {form.name}", form.note) for form in embedding.forms]


def _show_interval(found: Interval | None, factor: float = 1.0, unit: str = "") -> str:
    if found is None:
        return show_number(None)
    if found.low is None or found.high is None:
        return f"{factor * found.mean:.3g}{unit}"
    return f"{factor * found.mean:.3g}{unit} ({factor * found.low:.3g} to {factor * found.high:.3g})"


def describe_behaviour(behaviour: Behaviour) -> list[tuple[str, str]]:
    """What a trained network makes of the time, with a name each; 95 % intervals over batches."""
    return [
        (f"loss ({behaviour.loss}), told the right time", _show_interval(behaviour.right)),
        ("higher with a shuffled time", _show_interval(behaviour.shuffled, 100, " %")),
        (f"higher with {behaviour.fixed_at:g} for all", _show_interval(behaviour.fixed, 100, " %")),
        ("R^2 of a linear probe for the time", _show_interval(behaviour.linear)),
        ("R^2 of an MLP probe for the time", _show_interval(behaviour.mlp)),
        ("batches, images", f"{behaviour.batches}, {behaviour.images}"),
    ]


def list_levels(behaviour: Behaviour) -> list[list[str]]:
    """Losses by true time, under `LEVEL_HEADINGS`."""
    return [[f"{one.t:g}", *map(show_number, (one.right, one.shuffled, one.fixed))] for one in behaviour.levels]


def draw_levels(behaviour: Behaviour) -> Table:
    """The losses at each true time."""
    drawing = Table(title="Told time: the loss at each true time", title_justify="left", title_style="bold")
    for heading in LEVEL_HEADINGS:
        drawing.add_column(heading, justify="right")
    for row in list_levels(behaviour):
        drawing.add_row(*row)
    return drawing


def describe_settings(audit: Audit) -> str:
    """Under what the numbers were measured."""
    times, data = ", ".join(f"{t:.6g}" for t in audit.times), ", ".join(audit.data)
    return f"{audit.mode} mode, {audit.dtype}; times {times}; data ({data}) from time {audit.at:.6g}"


def print_screen(audit: Audit, console: Console) -> None:
    """Print the sites, the embedding and the verdict."""
    if audit.sites:
        console.print(draw_sites(audit))
    if audit.embedding is not None:
        for name, fact in describe_embedding(audit.embedding):
            console.print(f"  {name}: {fact}", markup=False, highlight=False)
    if audit.behaviour is not None:
        console.print(draw_levels(audit.behaviour))
        for name, fact in describe_behaviour(audit.behaviour):
            console.print(f"  {name}: {fact}", markup=False, highlight=False)
    for line in (describe_settings(audit), *audit.notes):
        console.print(f"  {line}", markup=False, highlight=False, style="dim")
    console.print()
    for sentence in conclude(audit):
        console.print(sentence, markup=False, highlight=False, style="bold")
