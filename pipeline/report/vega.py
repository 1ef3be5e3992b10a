"""Vega-Lite: what all charts have in common, and its converter to SVG."""

from typing import Any

import vl_convert

Chart = dict[str, Any]
"""A Vega-Lite specification."""
VEGA_LITE = "6.4"
PALETTE = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"]
"""Colours that the colour-blind tell apart, without the yellow that white swallows: Okabe and Ito (2008)."""
SHAPES = ["circle", "square", "triangle-up", "cross", "triangle-down", "triangle-right", "triangle-left"]
_CONFIG: Chart = {
    # The converter brings this font along, so that labels are measured alike on every machine.
    "font": "Liberation Sans, Arial, Helvetica, sans-serif",
    "background": "white",
    "view": {"stroke": None},
    "axis": {"labelFontSize": 12, "titleFontSize": 13, "titleFontWeight": "normal", "gridColor": "#e5e5e5"},
    "legend": {"labelFontSize": 12, "titleFontSize": 13, "titleFontWeight": "normal", "symbolSize": 80},
    "title": {"fontSize": 15, "subtitleFontSize": 12, "anchor": "start", "offset": 12},
}


def render_svg(chart: Chart) -> str:
    """A chart as SVG: the same bytes for the same chart, and nothing in it that is fetched from elsewhere."""
    return vl_convert.vegalite_to_svg(chart, vl_version=VEGA_LITE, config=_CONFIG)


def bundle_library() -> str:
    """Vega, Vega-Lite and vega-embed in one script, whose short names stay its own."""
    bundle = vl_convert.javascript_bundle(
        "window.vegaEmbed = vegaEmbed; window.vega = vega; window.vegaLite = vegaLite;", vl_version=VEGA_LITE
    )
    assert "</script" not in bundle
    assert "<!--" not in bundle
    return f'(() => {{\n"use strict";\n{bundle}\n}})();'
