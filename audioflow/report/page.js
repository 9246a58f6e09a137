"use strict";
// Without this script the page shows everything; with it tables sort and filter, and tabs fold away.
document.documentElement.classList.add("js");

const FEW_ROWS = 10;

const element = (name, attributes = {}, ...children) => {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
};

const dataOf = (id) => {
  const holder = document.getElementById(id);
  return holder && JSON.parse(holder.textContent);
};

const numberOf = (cell) => {
  if (cell.dataset.k !== undefined) return cell.dataset.k === "" ? NaN : Number(cell.dataset.k);
  const text = (cell.firstChild?.textContent ?? "").replace(/[,%\s+]/g, "").replace("\u2212", "-");
  return text === "" || text === "\u2013" ? NaN : Number(text);
};

const inOrder = new Intl.Collator(undefined, { numeric: true }).compare;

// Cells without a number come last whichever way a column is sorted.
const compare = (a, b, sign, numeric) => {
  if (!numeric) return sign * inOrder(a.textContent, b.textContent);
  const x = numberOf(a), y = numberOf(b);
  if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
  return sign * (x - y);
};

const makeSortable = (table) => {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = element("button", { type: "button" }, ...head.childNodes);
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
};

const countsOf = (values) => {
  const counts = new Map();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1]);
};

// A choice of one of the values that a column has, where its heading asks for it.
const facetOf = (head, rows) => {
  const column = head.cellIndex;
  const counts = countsOf(rows.map((row) => row.cells[column].textContent.trim()));
  if (counts.length < 2 || counts.length > 60) return null;
  const name = head.textContent.trim();
  const select = element("select", { "aria-label": `Only one ${name}` }, new Option(`any ${name}`, ""));
  for (const [value, count] of counts) select.append(new Option(`${value} (${count.toLocaleString("en")})`, value));
  return { select, matches: (row) => !select.value || row.cells[column].textContent.trim() === select.value };
};

const toolsBefore = (place) => {
  const before = place.previousElementSibling;
  if (before?.classList.contains("tools")) return before;
  const made = element("div", { class: "tools" });
  place.before(made);
  return made;
};

const makeFilterable = (table) => {
  const rows = [...table.tBodies[0].rows];
  if (rows.length <= FEW_ROWS) return;
  const facets = [...table.tHead.rows[0].cells].filter((head) => "facet" in head.dataset).map((head) => facetOf(head, rows)).filter(Boolean);
  const label = table.dataset.filter ?? "Filter rows";
  const input = element("input", { type: "search", placeholder: label, "aria-label": label });
  const count = element("output", { class: "count-shown" });
  const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  const apply = () => {
    const wanted = input.value.trim().toLowerCase();
    let shown = 0;
    for (const row of rows) {
      row.hidden = !(texts.get(row).includes(wanted) && facets.every((facet) => facet.matches(row)));
      shown += !row.hidden;
    }
    count.textContent = shown === rows.length ? "" : `${shown.toLocaleString("en")} of ${rows.length.toLocaleString("en")}`;
  };
  const controls = [input, ...facets.map((facet) => facet.select)];
  controls.forEach((control) => control.addEventListener("input", apply));
  toolsBefore(table.closest(".scroll") ?? table).append(element("div", { class: "filters" }, ...controls, count));
};

for (const table of document.querySelectorAll("table.sortable")) {
  makeFilterable(table);
  makeSortable(table);
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
  const bar = element("div", { class: "switch", role: "tablist" });
  const show = (chosen) => panels.forEach((panel, place) => {
    panel.classList.toggle("folded", place !== chosen);
    bar.children[place].setAttribute("aria-selected", String(place === chosen));
  });
  panels.forEach((panel, place) => {
    const names = [...panel.querySelector(":scope > h3, :scope > h4").childNodes];
    const button = element("button", { type: "button", role: "tab" }, ...names.map((node) => node.cloneNode(true)));
    button.addEventListener("click", () => show(place));
    bar.append(button);
    panel.setAttribute("role", "tabpanel");
    panel.addEventListener("reveal", () => show(place));
  });
  tabs.before(bar);
  show(0);
}

// What a link leads to may lie in a folded tab or a closed part.
const reveal = () => {
  const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  for (let place = target; place; place = place.parentElement) {
    if (place.getAttribute("role") === "tabpanel") place.dispatchEvent(new Event("reveal"));
    if (place.tagName === "DETAILS") place.open = true;
  }
  target.scrollIntoView();
};
addEventListener("hashchange", reveal);
reveal();

// A clip that stands in several lists has its sound and its picture in the page once.
for (const copy of document.querySelectorAll("[data-same]")) {
  const first = document.getElementById(copy.dataset.same);
  copy.src = first.src;
  copy.hidden = false;
}
// One at a time.
document.addEventListener("play", (event) => {
  for (const player of document.querySelectorAll("audio")) if (player !== event.target) player.pause();
}, true);

// On paper nothing can be opened.
let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open])")];
  opened.forEach((details) => { details.open = true; });
});
addEventListener("afterprint", () => opened.forEach((details) => { details.open = false; }));
