"""The picture that stands beside a link to the page: its question, and the figures of its first screen."""

import io

from PIL import Image

from pipeline.report.figures import draw_panel
from pipeline.report.panel import select_panels
from pipeline.report.sources import Sources
from pipeline.report.vega import Chart, render_png

TITLE = "Does the timestep embedding disappear?"
"""Of the page."""
_SIZE = (1200, 630)
_MARGIN = 30


def _compose(sources: Sources) -> Chart:
    """The first case of each figure, side by side."""
    report, charts = sources.project.report, list[Chart]()
    for name in (name for name in report.front if name in report.figures):
        figure = sources.project.figures[name]
        for panel in select_panels(sources.panels[figure.study], figure.cases)[:1]:
            charts.append({**draw_panel(figure, panel), "title": {"text": figure.title}})
    nothing: Chart = {"data": {"values": [{}]}, "mark": {"type": "text", "text": ""}}
    title = {"text": TITLE, "fontSize": 28, "offset": 24}
    return {
        "title": title,
        "hconcat": charts or [nothing],
        "spacing": 40,
        "resolve": {"scale": {"color": "independent", "shape": "independent"}},
    }


def draw_share(sources: Sources) -> bytes:
    """The picture as PNG: 1200 by 630 pixels, the size that most networks show."""
    width, height = _SIZE
    picture = Image.open(io.BytesIO(render_png(_compose(sources), scale=2))).convert("RGB")
    picture.thumbnail((width - 2 * _MARGIN, height - 2 * _MARGIN), Image.Resampling.LANCZOS)
    page = Image.new("RGB", _SIZE, "white")
    page.paste(picture, ((width - picture.width) // 2, (height - picture.height) // 2))
    file = io.BytesIO()
    page.save(file, format="png")
    return file.getvalue()
