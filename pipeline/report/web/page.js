// Draws each chart in place of its picture; again when the reader changes between light and dark.
"use strict";
const charts = JSON.parse(document.getElementById("charts").textContent);
const drawn = new Map();
const offered = new Map();
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

function makeButtons(place, title, names) {
  const row = document.createElement("div");
  row.className = "series";
  row.setAttribute("role", "group");
  row.setAttribute("aria-label", `Series of ${title}`);
  row.append("Shown:");
  const buttons = names.map((name) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = name;
    button.setAttribute("aria-pressed", "true");
    return button;
  });
  row.append(...buttons);
  place.after(row);
  return buttons;
}

// A legend hides series, but for a mouse only. Its entries as buttons, for all; what either does, the other shows.
function offerSeries(place, title, view) {
  const stored = view.getState({ data: (name) => name === "shown_store", signals: () => false }).data.shown_store;
  if (stored === undefined) return; // no legend of series
  const entries = JSON.stringify(stored); // Vega marks those that it is given
  const redrawn = offered.has(place);
  const buttons = offered.get(place) ?? makeButtons(place, title, stored.map((entry) => entry.values[0]));
  offered.set(place, buttons);
  const isShown = (index) => buttons[index].getAttribute("aria-pressed") === "true";
  const show = (wanted) => view.data("shown_store", JSON.parse(entries).filter((_, index) => wanted(index))).runAsync();
  buttons.forEach((button, clicked) => {
    button.onclick = () => show((index) => isShown(index) !== (index === clicked));
  });
  view.addSignalListener("shown", (_, { series = [] }) => {
    for (const button of buttons) button.setAttribute("aria-pressed", series.includes(button.textContent));
  });
  if (redrawn) show(isShown);
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
    offerSeries(place, chart.description, drawn.get(id).view);
  }
}

dark.addEventListener("change", draw);
draw();
