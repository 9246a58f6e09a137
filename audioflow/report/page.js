"use strict";
// Without this script the page shows everything; with it tables sort and filter, and tabs fold away.
document.documentElement.classList.add("js");

const numberOf = (cell) => {
  if (cell.dataset.k !== undefined) return Number(cell.dataset.k);
  const text = cell.textContent.replace(/[,%\s+]/g, "").replace("\u2212", "-");
  return text === "" || text === "\u2013" ? NaN : Number(text);
};

// Cells without a number come last whichever way a column is sorted.
const compare = (a, b, sign, numeric) => {
  if (!numeric) return sign * a.textContent.localeCompare(b.textContent, undefined, { numeric: true });
  const x = numberOf(a), y = numberOf(b);
  if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
  return sign * (x - y);
};

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    const numeric = head.classList.contains("num");
    button.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      const next = before ? (before === "ascending" ? "descending" : "ascending") : numeric ? "descending" : "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", next);
      const sign = next === "ascending" ? 1 : -1;
      const body = table.tBodies[0];
      body.append(...[...body.rows].sort((a, b) => compare(a.cells[column], b.cells[column], sign, numeric)));
    });
  });
}

for (const input of document.querySelectorAll("input[data-filter]")) {
  const body = document.getElementById(input.dataset.filter).tBodies[0];
  input.addEventListener("input", () => {
    const wanted = input.value.trim().toLowerCase();
    for (const row of body.rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
  });
}

for (const group of document.querySelectorAll("[data-switch]")) {
  const table = document.getElementById(group.dataset.switch);
  const buttons = [...group.children];
  buttons.forEach((button, place) => button.addEventListener("click", () => {
    buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
    for (const cell of table.querySelectorAll("[data-v]")) {
      const value = cell.dataset.v.split(",")[place];
      cell.textContent = value === "" ? "\u2013" : value;
      cell.style.setProperty("--v", value === "" ? 0 : value / 100);
    }
    table.querySelectorAll("[aria-sort]").forEach((head) => head.removeAttribute("aria-sort"));
  }));
}

for (const tabs of document.querySelectorAll(".tabs")) {
  const panels = [...tabs.children];
  if (panels.length < 2) continue;
  const bar = document.createElement("div");
  bar.className = "switch";
  bar.setAttribute("role", "tablist");
  const show = (chosen) => panels.forEach((panel, place) => {
    panel.classList.toggle("folded", place !== chosen);
    bar.children[place].setAttribute("aria-selected", String(place === chosen));
  });
  panels.forEach((panel, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("role", "tab");
    button.append(...[...panel.querySelector("h3").childNodes].map((node) => node.cloneNode(true)));
    button.addEventListener("click", () => show(place));
    bar.append(button);
    panel.setAttribute("role", "tabpanel");
  });
  tabs.before(bar);
  show(0);
}

// On paper nothing can be opened.
let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open])")];
  opened.forEach((details) => { details.open = true; });
});
addEventListener("afterprint", () => opened.forEach((details) => { details.open = false; }));
