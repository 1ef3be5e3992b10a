// Draws each chart in place of its picture; again when the reader changes between light and dark.
"use strict";
const charts = JSON.parse(document.getElementById("charts").textContent);
const drawn = new Map();
const dark = window.matchMedia("(prefers-color-scheme: dark)");

function configure() {
  const ink = dark.matches ? "#e8e8e8" : "#1a1a1a";
  const grid = dark.matches ? "#444" : "#e0e0e0";
  const text = { labelColor: ink, titleColor: ink, labelFontSize: 12, titleFontSize: 13, titleFontWeight: "normal" };
  return {
    background: "transparent",
    font: "system-ui, sans-serif",
    view: { stroke: null },
    axis: { ...text, gridColor: grid, domainColor: ink, tickColor: ink },
    legend: { ...text, symbolSize: 90 },
    header: text,
    text: { color: ink },
    rule: { color: ink },
  };
}

// Black, which stands for a default, would vanish on a dark page.
function recolour(chart) {
  return dark.matches ? JSON.parse(JSON.stringify(chart).replaceAll("#000000", "#ffffff")) : chart;
}

async function draw() {
  for (const [id, chart] of Object.entries(charts)) {
    const place = document.getElementById(id);
    drawn.get(id)?.finalize();
    const options = {
      mode: "vega-lite", renderer: "svg", actions: false, ast: true, config: configure(),
      tooltip: { theme: dark.matches ? "dark" : "light" },
    };
    drawn.set(id, await vegaEmbed(place, recolour(chart), options));
  }
}

dark.addEventListener("change", draw);
draw();
