"use strict";

// A chart that has panels takes as many of them in a row as there is room for.
async function draw(chart) {
  chart.dataset.state = "drawing";
  const spec = JSON.parse(document.getElementById(chart.id.replace("chart-", "spec-")).textContent);
  const panel = (spec.usermeta || {}).panel;
  if (panel && spec.columns) {
    spec.columns = Math.max(1, Math.min(spec.concat.length, Math.floor((chart.clientWidth + 28) / panel)));
  }
  for (const map of spec.concat.filter((each) => each.width && each.width.step)) {
    const room = (chart.clientWidth - spec.usermeta.labels) / spec.usermeta.cells;
    map.width.step = Math.min(map.width.step, Math.max(28, Math.floor(room)));
  }
  spec.background = "transparent";
  await window.vegaEmbed(chart, spec, { actions: false, renderer: "svg" });
  chart.dataset.state = "drawn";
}

async function drawVisible() {
  for (const chart of document.querySelectorAll(".chart:not([data-state])")) {
    if (!chart.closest("details:not([open])")) {
      await draw(chart);
      await new Promise((resolve) => setTimeout(resolve));
    }
  }
  document.documentElement.dataset.state = "drawn";
}

// Numbers by size, words as a person sorts them; what is empty comes last in both directions.
function compare(a, b) {
  const x = Number(a.replaceAll(",", "")), y = Number(b.replaceAll(",", ""));
  return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, "en", { numeric: true }) : x - y;
}

function sortBy(head) {
  const table = head.closest("table");
  const ascending = head.getAttribute("aria-sort") !== "ascending";
  const rows = Array.from(table.tBodies[0].rows, (row) => [row.cells[head.cellIndex].textContent.trim(), row]);
  rows.sort(([a], [b]) => (a === "") - (b === "") || (ascending ? compare(a, b) : compare(b, a)));
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  table.tBodies[0].append(...rows.map(([, row]) => row));
}

for (const button of document.querySelectorAll("#run-list th button")) {
  button.addEventListener("click", () => sortBy(button.closest("th")));
}
for (const details of document.querySelectorAll("details.folded")) {
  details.addEventListener("toggle", drawVisible);
}
drawVisible();
