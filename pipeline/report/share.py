"""The picture that stands beside a link to the page: its question, and the figures of its first screen."""

import io
from pathlib import Path

import matplotlib as mpl
from PIL import Image, ImageDraw, ImageFont

from pipeline.report.pdf import draw_png
from pipeline.report.sources import Sources
from pipeline.report.views import TITLE

_SIZE = (1200, 630)
_MARGIN = 30
_TOP = 110
"""Where the figures begin, below the question."""


def draw_share(sources: Sources) -> bytes:
    """The picture as PNG: 1200 by 630 pixels, the size that most networks show. The same bytes on every machine."""
    report, (width, height) = sources.project.report, _SIZE
    figures = [sources.project.figures[name] for name in report.front if name in report.figures]
    page = Image.new("RGB", _SIZE, "white")
    font = Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans-Bold.ttf"
    # BASIC: the other layout is there on machines with FriBiDi alone, and sets letters otherwise.
    letters = ImageFont.truetype(font, 40, layout_engine=ImageFont.Layout.BASIC)
    ImageDraw.Draw(page).text((_MARGIN, _MARGIN), TITLE, "black", letters)
    room = (width - _MARGIN) // max(len(figures), 1) - _MARGIN
    for index, figure in enumerate(figures):
        drawn = Image.open(io.BytesIO(draw_png(figure, sources.panels[figure.study], room))).convert("RGB")
        drawn.thumbnail((room, height - _TOP - _MARGIN), Image.Resampling.LANCZOS)
        page.paste(drawn, (_MARGIN + index * (room + _MARGIN), _TOP))
    file = io.BytesIO()
    page.save(file, format="png")
    return file.getvalue()
