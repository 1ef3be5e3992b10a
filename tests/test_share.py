"""The picture beside a link to the page."""

import io
from types import SimpleNamespace

import pytest
from PIL import Image, ImageFont
from workspace import check_out

from pipeline.report.share import draw_share
from pipeline.report.sources import read_sources
from pipeline.schema.project import load_project


@pytest.mark.slow
def test_the_picture_has_the_same_bytes_where_fribidi_is_not_installed(monkeypatch: pytest.MonkeyPatch):
    root = check_out().root
    sources = read_sources(root, load_project(root))
    drawn = {}
    for there in (True, False):
        monkeypatch.setattr(ImageFont, "core", SimpleNamespace(HAVE_RAQM=there, getfont=ImageFont.core.getfont))
        drawn[there] = draw_share(sources)
    assert drawn[True] == drawn[False]
    assert drawn[True] == (root / "reports" / "share.png").read_bytes()
    assert Image.open(io.BytesIO(drawn[True])).size == (1200, 630)
