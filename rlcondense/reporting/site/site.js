// Sorting, filters and the split of the tables; without it they are plain tables.
"use strict";

const missingLast = (a, b, down, compare) =>
  a === "" || b === "" ? (a === "") - (b === "") : down ? compare(b, a) : compare(a, b);
const byNumber = (a, b) => a - b;
const byText = new Intl.Collator("en", { numeric: true }).compare;

function valueOf(row, column) {
  const cell = row.cells[column];
  return cell.dataset.v ?? cell.textContent.trim();
}

function sortBy(table, header, direction) {
  const column = header.cellIndex;
  const compare = header.dataset.sort === "text" ? byText : byNumber;
  const body = table.tBodies[0];
  const keyed = [...body.rows].map((row) => [valueOf(row, column), row]);
  keyed.sort((a, b) => missingLast(a[0], b[0], direction === "descending", compare));
  body.append(...keyed.map(([, row]) => row));
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", direction);
}

function makeSortable(table, changed) {
  for (const header of table.querySelectorAll("thead th[data-sort]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    const first = header.dataset.sort === "number" ? "descending" : "ascending";
    const second = first === "ascending" ? "descending" : "ascending";
    button.addEventListener("click", () => {
      sortBy(table, header, header.getAttribute("aria-sort") === first ? second : first);
      changed();
    });
  }
}

// Reference policies stay beside whatever learner, size or access is chosen.
function isShown(row, wanted) {
  const at = row.dataset;
  const always = row.classList.contains("policy");
  return (
    (!wanted.task || at.task === wanted.task) &&
    (!wanted.learner || always || at.learner === wanted.learner) &&
    (!wanted.budget || always || at.budget === wanted.budget) &&
    (!wanted.access || always || at.access === wanted.access) &&
    (!wanted.method || at.method.toLowerCase().includes(wanted.method.toLowerCase())) &&
    (!wanted.clears || "clears" in at)
  );
}

function makeFilterable(board) {
  const table = board.querySelector("table");
  const fields = [...board.querySelectorAll(".controls [name]:not([name=reset])")];
  const count = board.querySelector("output");
  const rows = [...table.tBodies[0].rows];
  const original = [...rows];

  function read() {
    const wanted = {};
    for (const field of fields) {
      wanted[field.name] = field.type === "checkbox" ? field.checked && "1" : field.value.trim();
    }
    return wanted;
  }

  function show() {
    const wanted = read();
    let shown = 0;
    for (const row of rows) shown += !(row.hidden = !isShown(row, wanted));
    count.textContent = `${shown} of ${rows.length} rows`;
    followSplit(wanted.split);
  }

  function followSplit(split) {
    const sorted = table.querySelector("th[aria-sort][data-key]");
    table.classList.toggle("show-seen", split === "seen");
    table.classList.toggle("show-heldout", split !== "seen");
    if (sorted && sorted.dataset.key !== split) {
      sortBy(table, table.querySelector(`th[data-key=${split}]`), sorted.getAttribute("aria-sort"));
    }
  }

  function remember() {
    const state = new URLSearchParams();
    for (const [name, value] of Object.entries(read())) {
      if (value && !(name === "split" && value === "heldout")) state.set(name, value);
    }
    const sorted = table.querySelector("th[aria-sort]");
    if (sorted) {
      state.set("sort", sorted.textContent.trim());
      state.set("order", sorted.getAttribute("aria-sort"));
    }
    const text = state.toString();
    history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
  }

  function changed() {
    show();
    remember();
  }

  // An address such as #task=…&split=seen is a view; one such as #methods is a place.
  function recall() {
    const text = location.hash.slice(1);
    if (text && !text.includes("=")) return;
    const state = new URLSearchParams(text);
    for (const field of fields) {
      const value = state.get(field.name) ?? (field.name === "split" ? "heldout" : "");
      if (field.type === "checkbox") field.checked = value === "1";
      else field.value = value;
      if (field.tagName === "SELECT" && field.selectedIndex < 0) field.selectedIndex = 0;
    }
    const header = [...table.tHead.rows[0].cells].find(
      (th) => th.dataset.sort && th.textContent.trim() === state.get("sort"),
    );
    const order = state.get("order");
    if (header && (order === "ascending" || order === "descending")) sortBy(table, header, order);
    show();
  }

  makeSortable(table, remember);
  for (const field of fields) {
    field.addEventListener(field.type === "search" ? "input" : "change", changed);
  }
  board.querySelector("[name=reset]").addEventListener("click", () => {
    for (const field of fields) {
      if (field.type === "checkbox") field.checked = false;
      else if (field.tagName === "SELECT") field.selectedIndex = 0;
      else field.value = "";
    }
    for (const header of table.tHead.rows[0].cells) header.removeAttribute("aria-sort");
    table.tBodies[0].append(...original);
    changed();
  });
  addEventListener("hashchange", recall);
  board.querySelector(".controls").hidden = false;
  show();
  recall();
}

for (const board of document.querySelectorAll(".board")) {
  if ("board" in board.dataset) makeFilterable(board);
  else makeSortable(board.querySelector("table"), () => {});
}
