// Comparison of the rows in the page's address, by seed and by level.
"use strict";

// The logarithm of the gamma function (Lanczos), and the regularised incomplete beta function
// (continued fraction by Lentz's method).
function logGamma(x) {
  const series = [76.18009172947146, -86.50532032941677, 24.01409824083091, -1.231739572450155,
    0.1208650973866179e-2, -0.5395239384953e-5];
  const sum = series.reduce((total, c, i) => total + c / (x + 1 + i), 1.000000000190015);
  return (x + 0.5) * Math.log(x + 5.5) - (x + 5.5) + Math.log((2.5066282746310005 * sum) / x);
}

function incompleteBeta(x, a, b) {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  if (x > (a + 1) / (a + b + 2)) return 1 - incompleteBeta(1 - x, b, a);
  const front = Math.exp(logGamma(a + b) - logGamma(a) - logGamma(b) + a * Math.log(x) + b * Math.log(1 - x)) / a;
  const safe = (value) => (Math.abs(value) < 1e-300 ? 1e-300 : value);
  let [c, d] = [1, 1 / safe(1 - ((a + b) * x) / (a + 1))];
  let fraction = d;
  for (let m = 1; m < 300; m++) {
    const even = (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m));
    const odd = (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1));
    for (const step of [even, odd]) {
      d = 1 / safe(1 + step * d);
      c = safe(1 + step / c);
      fraction *= c * d;
    }
    if (Math.abs(c * d - 1) < 1e-14) break;
  }
  return front * fraction;
}

// The quantile of Student's t with 2.5% above it.
function quantile(degrees) {
  let [low, high] = [0, 1e6];
  for (let i = 0; i < 100; i++) {
    const t = (low + high) / 2;
    const above = incompleteBeta(degrees / (degrees + t * t), degrees / 2, 0.5) / 2;
    if (above > 0.025) low = t;
    else high = t;
  }
  return (low + high) / 2;
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const variance = (values) => {
  const centre = mean(values);
  return values.reduce((sum, value) => sum + (value - centre) ** 2, 0) / (values.length - 1);
};

function around(estimate, squaredError, degrees) {
  const error = Math.sqrt(squaredError);
  const half = Number.isNaN(error) ? NaN : quantile(degrees) * error;
  return { estimate, low: estimate - half, high: estimate + half, spread: error > 1e-9 * Math.max(1, Math.abs(estimate)) };
}

function student(values) {
  const n = values.length;
  return n < 2 ? around(mean(values), NaN, NaN) : around(mean(values), variance(values) / n, n - 1);
}

const means = (sets) => sets.map(mean);
const byStudent = (sets) => sets[0].map((_, i) => mean(sets.map((students) => students[i])));
const satterthwaite = (parts) => {
  const total = parts.reduce((sum, [v]) => sum + v, 0);
  if (!total) return Math.min(...parts.map(([, known]) => known));
  const known = total ** 2 / parts.reduce((sum, [v, own]) => sum + v ** 2 / own, 0);
  return Math.max(1, Math.floor(known + 1e-9));
};

// The variance of the mean of sets of students, who have the same seeds in each, and its degrees
// of freedom (a two-way layout); NaN of a single student.
function crossed(sets) {
  const [n, m] = [sets.length, sets[0].length];
  if (n === 1) return m < 2 ? [NaN, NaN] : [variance(sets[0]) / m, m - 1];
  const [ofSets, ofStudents, all] = [means(sets), byStudent(sets), mean(means(sets))];
  const bySets = variance(ofSets) / n;
  if (m === 1) return [bySets, n - 1];
  const rest = sets.flatMap((students, c) => students.map((x, s) => (x - ofSets[c] - ofStudents[s] + all) ** 2));
  const chance = rest.reduce((sum, x) => sum + x, 0) / ((n - 1) * (m - 1) * n * m);
  const parts = [[bySets, n - 1], [Math.max(0, variance(ofStudents) / m - chance), m - 1]];
  const total = parts[0][0] + parts[1][0];
  const most = m === 2 || (n === 2 && parts[0][0] > 1e-9 * total) ? 2 : Infinity; // unless both sets are equal
  return [total, Math.min(satterthwaite(parts), most)];
}

const overStudents = (sets) => around(mean(means(sets)), ...crossed(sets));
const units = (sets) => (sets.length === 1 ? sets[0].length : sets.length);

function differenceOf(x, y) {
  const alike = x[0].length === y[0].length && (x.length === y.length || Math.min(x.length, y.length) === 1);
  if (alike) {
    const most = x.length > y.length ? x : y;
    const at = (sets, c) => sets[sets.length === 1 ? 0 : c];
    return overStudents(most.map((_, c) => at(x, c).map((value, s) => value - at(y, c)[s])));
  }
  const estimate = mean(means(x)) - mean(means(y));
  if (Math.min(units(x), units(y)) < 2) return around(estimate, NaN, NaN);
  const parts = [crossed(x), crossed(y)];
  const fewest = Math.min(...[x, y].flatMap((sets) => [sets.length, sets[0].length]).filter((size) => size > 1));
  const most = fewest === 2 ? 2 : Infinity; // sets or students, which tell little of their own share
  return around(estimate, parts[0][0] + parts[1][0], Math.min(satterthwaite(parts), most));
}

const fixed = (value, sign) => {
  const text = value.toFixed(2);
  const plain = Number(text) === 0 ? "0.00" : text;
  return (sign && Number(plain) > 0 ? "+" : sign && plain === "0.00" ? "+" : "") + plain.replace("-", "−");
};

function shown({ estimate, low, high }, sign) {
  const text = fixed(estimate, sign);
  return Number.isNaN(low) ? text : `${text} [${fixed(low, sign)}, ${fixed(high, sign)}]`;
}

function verdict(difference, unjudged) {
  if (unjudged) return unjudged;
  if (Number.isNaN(difference.low)) return "one seed: not judged";
  if (difference.estimate && !difference.spread) return "equal units: not judged";
  if (difference.low > 0) return "above the first";
  return difference.high < 0 ? "below the first" : "not shown to differ";
}

const SPLITS = { heldout: "held-out", seen: "seen" };

// A name such as `pbc (inner_steps=30)`, its settings below it in small type.
function named(text, link) {
  const [id, ...settings] = text.split(" (");
  const first = link ? make("a", { href: link }, id) : id;
  const rest = settings.join(" (").replace(/\)$/, "");
  return rest ? [first, " ", make("small", { className: "more" }, rest)] : [first];
}

function tableOf(data, dataset, cells, split) {
  const table = make("table", { className: "rows stack" });
  const name = `${data.task}, ${dataset || "no data"}, ${SPLITS[split]} levels`;
  table.append(make("caption", {}, name));
  const head = table.createTHead().insertRow();
  for (const title of ["row", "data", "learner", "size", "labels", "mean", "difference by seed", "difference by level",
    "levels better / equal / worse", "verdict"]) {
    head.append(make("th", { scope: "col" }, title));
  }
  const body = table.createTBody();
  const first = data.rows[cells[0]];
  for (const cell of cells) {
    const row = data.rows[cell];
    const line = body.insertRow();
    line.append(make("th", { scope: "row" }, ...named(row.name, `records/${cell.split("-")[0]}.html`)));
    line.append(make("td", { className: "name" }, row.dataset.split("/").pop()));
    line.append(make("td", { className: "name" }, ...named(row.learner)));
    const texts = [[row.size?.toLocaleString("en"), row.budget].filter(Boolean).join(" in "), row.labels ?? "", shown(overStudents(row.students[split]))];
    if (cell === cells[0]) texts.push("", "", "", "");
    else if (row.played !== first.played) texts.push("", "", "", "played other levels");
    else {
      const apart = row.levels[split].map((value, i) => value - first.levels[split][i]);
      const difference = differenceOf(row.students[split], first.students[split]);
      const counts = [1, 0, -1].map((sign) => apart.filter((value) => Math.sign(value) === sign).length);
      const judged = verdict(difference, row.unjudged || first.unjudged);
      texts.push(shown(difference, true), shown(student(apart), true), counts.join(" / "), judged);
    }
    for (const text of texts) line.append(make("td", {}, text));
  }
  const scroll = make("div", { className: "scroll", role: "region", tabIndex: 0, "aria-label": name }, table);
  return [make("h3", {}, `On ${SPLITS[split]} levels`), make("div", { className: "board" }, scroll)];
}

// The rows by the data that they learned from; all together where no two learned from the same.
function byData(data, cells) {
  const of = Map.groupBy(cells, (cell) => data.rows[cell].dataset);
  const several = [...of].filter(([, own]) => own.length > 1);
  if (!several.length) return { groups: [["several datasets", cells]], alone: [] };
  return { groups: several, alone: [...of].filter(([, own]) => own.length === 1) };
}

// Addresses name a row by its first record and its number of sets, which grows; older ones by the record alone.
function keyIn(data, cell) {
  const [first] = cell.split("-");
  const alike = (key) => key === first || key.startsWith(`${first}-`);
  return Object.hasOwn(data.rows, cell) ? cell : Object.keys(data.rows).find(alike);
}

function load(task) {
  return new Promise((resolve) => {
    const script = make("script", { src: `levels/${task}.js` });
    script.addEventListener("load", () => resolve(globalThis.levels?.[task]));
    script.addEventListener("error", () => resolve(undefined));
    document.head.append(script);
  });
}

async function compare() {
  const place = document.getElementById("comparison");
  const wanted = [...new URLSearchParams(location.hash.slice(1))]
    .filter(([task, cells]) => /^[\w.-]+$/.test(task) && /^[0-9a-f,-]+$/.test(cells));
  if (!wanted.length) return;
  const parts = [];
  for (const [task, text] of wanted) {
    const data = await load(task);
    const cells = data ? text.split(",").map((cell) => keyIn(data, cell)).filter(Boolean) : [];
    if (cells.length < 2) continue;
    const { groups, alone } = byData(data, cells);
    for (const [dataset, own] of groups) {
      const heading = make("h2", {}, data.task, " ", make("small", {}, dataset || "no data"));
      parts.push(heading, ...Object.keys(SPLITS).flatMap((split) => tableOf(data, dataset, own, split)));
    }
    for (const [dataset, [cell]] of alone) {
      parts.push(make("p", {}, `Left out, the only row of its data: ${data.rows[cell].name}, ${dataset || "no data"}.`));
    }
  }
  place.replaceChildren(...(parts.length ? parts : [make("p", {}, "These rows have no task in common.")]));
  for (const board of every(".board", place)) addTools(board);
}

addEventListener("hashchange", compare);
addEventListener("DOMContentLoaded", compare);
