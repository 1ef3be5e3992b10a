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

function download(name, kind, content) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type: kind }));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}

// All rows of a chart's data as CSV; a run whose points are lists has a row for each point.
function writeData(chart) {
  const rows = new Map();
  const collect = (part) => {
    if (part === null || typeof part !== "object") return;
    if (Array.isArray(part.data?.values)) {
      for (const row of part.data.values) {
        const lists = Object.keys(row).filter((key) => Array.isArray(row[key]));
        const count = lists.length ? row[lists[0]].length : 1;
        for (let index = 0; index < count; index += 1) {
          const one = { ...row };
          for (const key of lists) one[key] = row[key][index];
          if (Object.keys(one).length) rows.set(JSON.stringify(one), one);
        }
      }
    }
    Object.entries(part).forEach(([key, inner]) => { if (key !== "data") collect(inner); });
  };
  collect(chart);
  const columns = [...new Set([...rows.values()].flatMap(Object.keys))];
  const quote = (value) => `"${String(value ?? "").replaceAll('"', '""')}"`;
  return [columns, ...[...rows.values()].map((row) => columns.map((column) => row[column]))]
    .map((cells) => `${cells.map(quote).join(",")}\n`).join("");
}

function offerDownloads(place, chart) {
  const row = document.createElement("p");
  const name = place.id.replace("chart-", "");
  const picture = place.querySelector("img").src;
  const svg = decodeURIComponent(picture.slice(picture.indexOf(",") + 1));
  row.className = "downloads";
  for (const [text, suffix, kind, make] of [
    ["Picture (SVG)", "svg", "image/svg+xml", () => svg], ["Data (CSV)", "csv", "text/csv", () => writeData(chart)],
  ]) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = text;
    button.setAttribute("aria-label", `${text}: ${chart.description}`);
    button.onclick = () => download(`${name}.${suffix}`, kind, make());
    row.append(button);
  }
  place.closest("figure").append(row);
}

async function draw(place) {
  const chart = charts[place.id];
  if (!drawn.has(place.id)) offerDownloads(place, chart);
  drawn.get(place.id)?.finalize();
  drawn.set(place.id, null);
  const options = {
    mode: "vega-lite", renderer: "svg", actions: false, ast: true, config: configure(),
    tooltip: { theme: dark.matches ? "dark" : "light" },
  };
  const result = await vegaEmbed(place, recolour(chart), options);
  drawn.set(place.id, result);
  offerSeries(place, chart.description, result.view);
}

// What is folded away has no width yet: it is drawn when it is opened.
async function drawShown() {
  for (const place of document.querySelectorAll(".chart")) {
    if (!drawn.has(place.id) && !place.closest("details:not([open])")) await draw(place);
  }
}

async function redraw() {
  for (const id of [...drawn.keys()]) await draw(document.getElementById(id));
}

// ---- Folds: a link into one opens it, and paper has all of them open ----

function reveal() {
  let id = location.hash.slice(1);
  try { id = decodeURIComponent(id); } catch { } // a lone % in an address is no mistake of the page's
  const target = document.getElementById(id);
  const own = target?.querySelectorAll(":scope > .fold:not([open])") ?? [];
  if (own.length === 1 && !target.classList.contains("chapter")) own[0].open = true; // it is all that there is
  let opened = false;
  for (let fold = target?.closest("details:not([open])"); fold; fold = target.closest("details:not([open])")) {
    fold.open = true;
    opened = true;
  }
  if (opened) target.scrollIntoView();
}

let printed = null;
addEventListener("beforeprint", () => {
  printed = [...document.querySelectorAll("details:not([open])")];
  for (const fold of printed) fold.open = true;
});
addEventListener("afterprint", () => {
  for (const fold of printed ?? []) fold.open = false;
  printed = null;
});
document.addEventListener("toggle", () => { if (printed === null) drawShown(); }, true);
addEventListener("hashchange", reveal);

// ---- The contents follow the reading ----

const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
const inView = new Set();

function follow(entries) {
  for (const { target, isIntersecting } of entries) inView[isIntersecting ? "add" : "delete"](target.id);
  const current = [...links.keys()].filter((id) => inView.has(id));
  if (!current.length && document.querySelector("nav a[aria-current]")) return;
  const last = links.get(current.at(-1) ?? links.keys().next().value);
  for (const link of links.values()) {
    if (link === last) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
    link.parentElement.classList.toggle("current", link.parentElement.contains(last));
  }
  const strip = last.closest(".contents");
  strip.scrollLeft = last.offsetLeft - strip.clientWidth / 3;
  const box = last.offsetTop;
  if (box < strip.scrollTop || box > strip.scrollTop + strip.clientHeight - 40) strip.scrollTop = box - 80;
}

const watcher = new IntersectionObserver(follow, { rootMargin: "-12% 0px -85% 0px" });
for (const id of links.keys()) watcher.observe(document.getElementById(id));

// ---- Tables can be sorted ----

function sort(table, header) {
  const column = header.cellIndex;
  const down = header.getAttribute("aria-sort") === "ascending";
  const text = (row) => row.cells[column].innerText.replace("−", "-").trim();
  const compare = (one, other) => {
    const [a, b] = [text(one), text(other)].map((cell) => parseFloat(cell));
    if (Number.isNaN(a) && Number.isNaN(b)) {
      const order = text(one).localeCompare(text(other), "en", { numeric: true });
      return down ? -order : order;
    }
    if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) ? 1 : -1; // without a number: last, either way
    return down ? b - a : a - b;
  };
  const rows = [...table.tBodies[0].rows].sort(compare);
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", down ? "descending" : "ascending");
  table.tBodies[0].append(...rows);
}

for (const table of document.querySelectorAll(".scroll > table")) {
  if (table.tBodies.length !== 1 || table.tBodies[0].rows.length < 3) continue;
  for (const header of table.tHead.rows[0].cells) {
    if (header.classList.contains("unsorted") || !header.textContent.trim()) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    button.onclick = () => sort(table, header);
    header.append(button);
  }
}

dark.addEventListener("change", redraw);
reveal();
drawShown();
