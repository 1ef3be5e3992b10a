"""The full report: verdicts, tables, figures and sample grids on one Markdown page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_HEAD = """# Report

Rendered by `dvc repro` from the records in `records/`; every number was run by this pipeline, except columns that
begin with "paper:". The question is the paper's (arXiv 2405.14126v1): is a timestep embedding that is added as one
offset per channel lost in the normalisation that follows, and do the three remedies help?
"""

_EMBEDDED = """
> **The digits are the embedded default, not the paper's scale.** They show that the pipeline works from data to
> table on any laptop. With so few seeds, images and steps, an effect of the paper may be absent or reversed here; that
> is shown as it is and says little about the paper. Fill in `cifar10` and `cifar100` in params.yaml for its scale.
"""


@dataclass(frozen=True)
class Preview:
    """A grid of samples."""

    dataset: str
    arm: str
    seed: int
    path: str
    """Relative to the report."""


def render_page(sections: Mapping[str, str], previews: Sequence[Preview], embedded: bool) -> str:
    """The report as Markdown.

    Args:
        sections: name to rendered Markdown, in order.
        embedded: whether a dataset of the small default is among the panels.
    """
    parts = [_HEAD + (_EMBEDDED if embedded else "")]
    parts += sections.values()
    if previews:
        parts.append("## Samples (DDPM)\n\nThe first images of each model, unselected.\n")
        for preview in previews:
            title = f"{preview.dataset}, arm `{preview.arm}`, seed {preview.seed}"
            parts.append(f"**{title}**\n\n![Samples: {title.replace('`', '')}](<{preview.path}>)\n")
    return "\n".join(parts)
