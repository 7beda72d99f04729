// Sorting, filters, columns, files and comparisons of the tables; without it they are plain tables.
"use strict";

const missingLast = (a, b, down, compare) =>
  a === "" || b === "" ? (a === "") - (b === "") : down ? compare(b, a) : compare(a, b);
const byNumber = (a, b) => a - b;
const byText = new Intl.Collator("en", { numeric: true }).compare;
const every = (selector, within = document) => [...within.querySelectorAll(selector)];

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name in element && name !== "list") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// Sorting

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
  for (const header of every("thead th[data-sort]", table)) {
    const button = make("button", { type: "button" }, ...header.childNodes);
    header.append(button);
    const first = header.dataset.sort === "number" ? "descending" : "ascending";
    const second = first === "ascending" ? "descending" : "ascending";
    button.addEventListener("click", () => {
      sortBy(table, header, header.getAttribute("aria-sort") === first ? second : first);
      changed();
    });
  }
}

// Filters. Reference policies stay beside whatever learner, size or track is chosen.

const TRACKS = {
  "": "all", offline: "offline", "-plays": "without play", "-expert": "without the expert",
  "-rewards": "without rewards",
};
const trackOptions = () => Object.entries(TRACKS).map(([value, text]) => make("option", { value }, text));

function isOnTrack(used, wanted) {
  if (!wanted) return true;
  const tracks = used ? used.split(" ") : [];
  if (!tracks.length) return false;
  return wanted.startsWith("-") ? !tracks.includes(wanted.slice(1)) : tracks.includes(wanted);
}

function isShown(row, wanted) {
  const at = row.dataset;
  const always = row.classList.contains("policy");
  return (
    (!wanted.task || at.task === wanted.task) &&
    (!wanted.learner || always || at.learner === wanted.learner) &&
    (!wanted.budget || always || at.budget === wanted.budget) &&
    (!wanted.labels || always || at.labels === wanted.labels) &&
    (always || isOnTrack(at.track, wanted.track)) &&
    (!wanted.method || at.method.toLowerCase().includes(wanted.method.toLowerCase())) &&
    (!wanted.clears || "clears" in at)
  );
}

function makeFilterable(board) {
  const table = board.querySelector("table");
  board.querySelector("[name=track]").append(...trackOptions());
  const fields = every(".controls [name]:not([name=reset])", board);
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

// Columns

function showColumn(table, header, shown) {
  const column = header.cellIndex;
  header.hidden = !shown;
  for (const body of table.tBodies) {
    for (const row of body.rows) if (row.cells[column]) row.cells[column].hidden = !shown;
  }
}

function columnChooser(table) {
  const narrow = matchMedia("(max-width: 40rem)").matches;
  const list = make("div", { className: "choices" });
  for (const header of [...table.tHead.rows[0].cells].slice(1)) {
    const box = make("input", { type: "checkbox" });
    box.checked = !("optional" in header.dataset || (narrow && "wide" in header.dataset));
    if (!box.checked) showColumn(table, header, false);
    box.addEventListener("change", () => showColumn(table, header, box.checked));
    const split = ["heldout", "seen"].find((name) => header.classList.contains(name));
    const name = header.textContent.trim() + (split && !header.dataset.key ? `, ${split}` : "");
    list.append(make("label", { className: "check" }, box, ` ${name}`));
  }
  return make("details", { className: "chooser" }, make("summary", {}, "Columns"), list);
}

// Files of what is on show

const isVisible = (element) => element.checkVisibility();

function shownCells(table) {
  const text = (cell) => {
    const copy = cell.cloneNode(true);
    for (const extra of copy.querySelectorAll("input, svg, .seeds")) extra.remove();
    for (const small of copy.querySelectorAll("small")) small.prepend(" ");
    return copy.textContent.replace(/\s+/g, " ").trim();
  };
  const left = table.classList.contains("show-seen") ? "heldout" : table.classList.contains("show-heldout") && "seen";
  const columns = [...table.tHead.rows[0].cells] // those that a narrow screen hides, too
    .filter((cell) => !cell.hidden && !cell.classList.contains(left))
    .map((cell) => cell.cellIndex);
  const rows = [...table.rows].filter((row) => isVisible(row) || row.parentNode === table.tHead);
  const told = columns.filter((c) => rows.slice(1).some((row) => row.cells[c] && text(row.cells[c])));
  const kept = rows.length > 1 ? told : columns;
  return rows.map((row) => kept.map((c) => (row.cells[c] ? text(row.cells[c]) : "")));
}

const csvCell = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
const csvOf = (table) =>
  shownCells(table).map((row) => row.map(csvCell).join(",")).join("\n") + "\n";

const TEX = {
  "\\": "\\textbackslash{}", "&": "\\&", "%": "\\%", $: "\\$", "#": "\\#", _: "\\_", "{": "\\{",
  "}": "\\}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "−": "$-$", "–": "--", "×": "$\\times$",
  "<": "$<$", ">": "$>$",
};

function latexOf(table) {
  const tex = (text) => text.replace(/[\\&%$#_{}~^−–×<>]/g, (sign) => TEX[sign]);
  const lines = shownCells(table).map((row) => `${row.map(tex).join(" & ")} \\\\`);
  const columns = "l" + "r".repeat(shownCells(table)[0].length - 1);
  return [
    "% needs booktabs", "\\begin{table}", "\\centering", `\\caption{${tex(table.caption.textContent)}}`,
    `\\begin{tabular}{${columns}}`, "\\toprule", lines[0], "\\midrule", ...lines.slice(1),
    "\\bottomrule", "\\end{tabular}", "\\end{table}", "",
  ].join("\n");
}

const DRAWN = ["fill", "stroke", "stroke-width", "stroke-dasharray", "opacity", "font-family", "font-size", "text-anchor"];

function svgOf(svg) {
  const copy = svg.cloneNode(true);
  const originals = [svg, ...svg.querySelectorAll("*")];
  [copy, ...copy.querySelectorAll("*")].forEach((element, i) => {
    const style = getComputedStyle(originals[i]);
    for (const name of DRAWN) element.setAttribute(name, style.getPropertyValue(name));
  });
  return new XMLSerializer().serializeToString(copy);
}

function saver(label, ending, type, textOf, title) {
  const button = make("button", { type: "button", className: "plain" }, label);
  button.addEventListener("click", () => {
    const url = URL.createObjectURL(new Blob([textOf()], { type }));
    const name = title.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "").slice(0, 60);
    make("a", { href: url, download: `${name || "rlcondense"}.${ending}` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  });
  return button;
}

// Comparisons: rows are ticked, and a page compares them level by level.

const root = document.currentScript.getAttribute("src").replace("site.js", "");
const ticked = new Set();
const links = []; // of each table, to the comparison of all rows that are ticked

function comparisonAddress() {
  const tasks = new Map();
  for (const cells of ticked) {
    for (const [task, cell] of cells.split(" ").filter(Boolean).map((part) => part.split(":"))) {
      if (!tasks.has(task)) tasks.set(task, []);
      tasks.get(task).push(cell);
    }
  }
  const state = [...tasks].map(([task, cells]) => `${task}=${cells.join(",")}`);
  return `${root}compare.html#${state.join("&")}`;
}

// A row may stand in several tables, as in both splits of a view.
function showTicked() {
  for (const link of links) {
    link.hidden = ticked.size < 2;
    link.textContent = `Compare ${ticked.size} rows`;
    link.href = comparisonAddress();
  }
  for (const row of every("tr[data-cells]")) {
    const box = row.querySelector("th input");
    if (box) box.checked = ticked.has(row.dataset.cells);
  }
}

function makeTickable(table, link) {
  links.push(link);
  for (const row of every("tbody tr[data-cells]", table)) {
    const { cells, task } = row.dataset;
    const name = row.dataset.name ?? row.dataset.method;
    const box = make("input", { type: "checkbox", "aria-label": `compare ${name}${task ? `, ${task}` : ""}` });
    box.addEventListener("change", () => {
      if (box.checked) ticked.add(cells);
      else ticked.delete(cells);
      showTicked();
    });
    row.querySelector("th").prepend(box, " ");
  }
}

// On a narrow screen each row is a block of cells, which need the names of their columns.
function nameCells(table) {
  const names = [...table.tHead.rows[0].cells].map((header) => header.textContent.trim());
  for (const cell of every("tbody td", table)) {
    if (!cell.classList.contains("text")) cell.dataset.label = names[cell.cellIndex];
  }
}

// Texts that appear on a pointer: settings that are cut off, and what U+ and the like mean.
const VERDICTS = { above: "above", level: "level with", below: "below", unknown: "not judged against" };
const FLOORS = { U: "the random policy", M: "the marginal policy", S: "the random subset" };

function addTitles(table) {
  for (const cut of every(".more", table)) cut.title = cut.textContent;
  for (const sign of every(".ums span[class]", table)) {
    const why = sign.closest("td").dataset.why;
    const floor = sign.dataset.floor ?? FLOORS[sign.textContent[0]];
    sign.title = `${why ? `${why} against` : VERDICTS[sign.className]} ${floor}`;
  }
}

function addTools(board) {
  const table = board.querySelector("table");
  addTitles(table);
  nameCells(table);
  const title = table.caption.textContent;
  const tools = make("div", { className: "tools", role: "group", "aria-label": `Tools of ${title}` });
  tools.append(
    columnChooser(table),
    saver("CSV", "csv", "text/csv", () => csvOf(table), title),
    saver("LaTeX", "tex", "text/plain", () => latexOf(table), title),
  );
  if (table.querySelector("tr[data-cells]")) {
    const link = make("a", { className: "compare", hidden: true });
    makeTickable(table, link);
    tools.append(link);
  }
  board.querySelector(".scroll").before(tools);
}

// Views of the first page: four choosers for the pages in views.js, and the split.

function makeViews(nav) {
  const names = ["Tasks", "Size", "Labels", "Learner"];
  const { views } = globalThis;
  const current = views.find((view) => view[0] === nav.dataset.views);
  const chosen = current.slice(1);
  const bar = make("div", { className: "controls" });
  const agreement = (view, first) =>
    chosen.filter((value, i) => view[i + 1] === value).length + 10 * (view[first + 1] === chosen[first]);
  for (const [i, label] of names.entries()) {
    const select = make("select", { name: label.toLowerCase() });
    for (const value of new Set(views.map((view) => view[i + 1]))) {
      select.append(make("option", { selected: value === chosen[i] }, value));
    }
    select.addEventListener("change", () => {
      chosen[i] = select.value;
      const best = views.reduce((a, b) => (agreement(b, i) > agreement(a, i) ? b : a));
      location.href = root + best[0] + location.hash;
    });
    bar.append(make("label", {}, label, select));
  }
  const split = make("select", { name: "split" });
  split.append(
    make("option", { value: "heldout" }, "held-out levels"),
    make("option", { value: "seen" }, "seen levels"),
  );
  const show = () => {
    for (const board of every("[data-split]")) board.hidden = board.dataset.split !== split.value;
  };
  split.addEventListener("change", () => {
    history.replaceState(null, "", split.value === "seen" ? "#split=seen" : location.pathname);
    show();
  });
  if (location.hash === "#split=seen") split.value = "seen";
  show();
  const track = make("select", { name: "track" }, ...trackOptions());
  track.addEventListener("change", () => {
    for (const row of every("[data-split] tr[data-track]")) row.hidden = !isOnTrack(row.dataset.track, track.value);
  });
  bar.append(make("label", {}, "Split", split), make("label", {}, "Track", track));
  nav.before(bar);
}

for (const board of every(".board")) {
  addTools(board);
  if ("board" in board.dataset) makeFilterable(board);
  else makeSortable(board.querySelector("table"), () => {});
}
for (const nav of every("[data-views]")) makeViews(nav);
for (const svg of every("figure svg[role=img]")) {
  const title = svg.getAttribute("aria-label");
  const button = saver("SVG", "svg", "image/svg+xml", () => svgOf(svg), title);
  button.setAttribute("aria-label", `SVG: ${title}`);
  svg.closest("figure").append(button);
}

// What is cut at the right, and scrolls, fades out there.

function markCut(frame) {
  const mark = () =>
    frame.classList.toggle("more", frame.scrollWidth - frame.clientWidth - frame.scrollLeft > 1);
  const resized = new ResizeObserver(mark);
  for (const element of [frame, ...frame.children]) resized.observe(element);
  frame.addEventListener("scroll", mark, { passive: true });
}

for (const frame of every(".scroll")) markCut(frame);
