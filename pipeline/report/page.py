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

_SAMPLES = """## Samples (DDPM)

The first images of each model, unselected; in the same place the same noise. Below them the first few on their way from
pure noise to the image, two rows each: as it is, and what the network foresees there.
"""


@dataclass(frozen=True)
class Preview:
    """A grid of samples, and a trajectory."""

    dataset: str
    arm: str
    seed: int
    path: str
    """Relative to previews/ and trajectories/, which lie beside the report."""


def render_page(
    sections: Mapping[str, str], previews: Sequence[Preview], embedded: bool, warnings: Sequence[str] = ()
) -> str:
    """The report as Markdown.

    Args:
        sections: name to rendered Markdown, in order.
        embedded: whether a dataset of the small default is among the panels.
        warnings: Markdown, what to know before any number is compared with another.
    """
    parts = [_HEAD + (_EMBEDDED if embedded else ""), *(f"> {warning}\n" for warning in warnings)]
    parts += sections.values()
    if previews:
        parts.append(_SAMPLES)
        for preview in previews:
            title = f"{preview.dataset}, arm `{preview.arm}`, seed {preview.seed}"
            alt = title.replace("`", "")
            parts.append(f"**{title}**\n\n![Samples: {alt}](<previews/{preview.path}>)\n")
            parts.append(f"![From noise to image: {alt}](<trajectories/{preview.path}>)\n")
    return "\n".join(parts)
