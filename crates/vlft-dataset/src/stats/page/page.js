"use strict";
// The numbers of all records stand in #data; rows are built fifty at a time. No text of a record is
// ever put into the page as HTML.
(() => {
const data = JSON.parse(document.getElementById("data").textContent);
const { report, rows, rules, images, prompts } = data;
const PAGE = 50;
const $ = (id) => document.getElementById(id);

// --- small helpers --------------------------------------------------------------------------------

const grouped = (n) => Math.round(n).toString().replace(/\B(?=(\d{3})+$)/g, "\u202f");
const plural = (n, noun) => `${grouped(n)} ${noun}${n === 1 ? "" : "s"}`;
const short = (n) => (Math.abs(n) >= 100 || Number.isInteger(n) ? grouped(n) : String(Math.round(n * 10) / 10));
const kib = (bytes) => (bytes >= 1048576 ? `${(bytes / 1048576).toFixed(1)} MiB` : `${Math.max(1, Math.round(bytes / 1024))} KiB`);

// el("td.num", {title: "x"}, "text", child): attributes, then children; text is never parsed.
function el(name, attributes, ...children) {
  const [tag, ...classes] = name.split(".");
  const node = document.createElement(tag);
  if (classes.length) node.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  for (const child of children.flat()) if (child !== null && child !== undefined) node.append(child);
  return node;
}
function svg(tag, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

// --- thumbnails: taken out of their inert elements when a row is shown ------------------------------

const chunks = document.querySelectorAll("script.thumbnails");
const taken = new Map();
function thumbnail(image) {
  const index = images[image] && images[image][6];
  if (index === null || index === undefined) return null;
  const chunk = Math.floor(index / data.chunk);
  if (!taken.has(chunk)) {
    if (taken.size > 24) taken.clear();
    taken.set(chunk, chunks[chunk].textContent.split("\n"));
  }
  return "data:image/jpeg;base64," + taken.get(chunk)[index % data.chunk];
}

// --- what can be sorted, drawn and filtered by --------------------------------------------------------

const QUANTITIES = [
  { id: "tokens", name: "Tokens", of: (r) => r.tokens && r.tokens[0] },
  { id: "image", name: "Image tokens", of: (r) => r.tokens && r.tokens[1] },
  { id: "trained", name: "Trained tokens", of: (r) => r.tokens && r.tokens[2] },
  { id: "dpi", name: "Effective dpi", head: "Dpi", of: (r) => r.dpi },
  { id: "images", name: "Images", of: (r) => r.images.length + (r.unreadable || 0) },
  { id: "chars", name: "Answer length", head: "Length", of: (r) => r.chars },
  { id: "filled", name: "Fields filled, %", head: "Filled", of: (r) => (r.filled[1] ? (100 * r.filled[0]) / r.filled[1] : null) },
];
for (const quantity of QUANTITIES) {
  quantity.values = rows.map((row) => {
    const value = quantity.of(row);
    return value === undefined ? null : value;
  });
  quantity.known = quantity.values.filter((value) => value !== null);
}
const drawn = QUANTITIES.filter((q) => q.known.length > 0);
const byId = Object.fromEntries(QUANTITIES.map((q) => [q.id, q]));

// --- state ------------------------------------------------------------------------------------------

const state = { search: "", rule: "", ranges: {}, sort: "worst", down: false, page: 0 };
let order = rows.map((_, i) => i); // what is shown, in order
let haystacks = null;

function haystack(i) {
  if (!haystacks) haystacks = new Array(rows.length);
  if (haystacks[i] === undefined) {
    const row = rows[i];
    const marks = row.marks.map(([rule, message]) => rules[rule][0] + " " + message).join(" ");
    const files = row.images.map((image) => images[image][0]).join(" ");
    haystacks[i] = [row.id, row.document || "", row.answer, marks, files, "line " + row.line].join("\n").toLowerCase();
  }
  return haystacks[i];
}

function passes(i, except) {
  const row = rows[i];
  if (state.rule === "any" && !row.marks.length) return false;
  if (state.rule.startsWith("level:") && !row.marks.some(([rule]) => rules[rule][1] === Number(state.rule.slice(6)))) return false;
  if (state.rule.startsWith("rule:") && !row.marks.some(([rule]) => rule === Number(state.rule.slice(5)))) return false;
  for (const [id, range] of Object.entries(state.ranges)) {
    if (id === except) continue;
    const value = byId[id].values[i];
    if (value === null || value < range.from || (range.last ? value > range.to : value >= range.to)) return false;
  }
  return state.words.every((word) => haystack(i).includes(word));
}

function update(keepPage) {
  state.words = state.search.toLowerCase().split(/\s+/).filter(Boolean);
  order = [];
  for (let i = 0; i < rows.length; i++) if (passes(i)) order.push(i);
  const quantity = byId[state.sort];
  if (quantity) {
    const { values } = quantity;
    const sign = state.down ? -1 : 1;
    // What has no value comes last, whichever way.
    order.sort((a, b) => {
      if (values[a] === null || values[b] === null) return (values[a] === null) - (values[b] === null) || a - b;
      return sign * (values[a] - values[b]) || a - b;
    });
  } else if (state.sort === "line") {
    order.sort((a, b) => (state.down ? -1 : 1) * (rows[a].line - rows[b].line));
  } else if (state.sort === "id") {
    const compare = new Intl.Collator(undefined, { numeric: true }).compare;
    order.sort((a, b) => (state.down ? -1 : 1) * compare(rows[a].id, rows[b].id) || a - b);
  } else if (state.down) {
    order.reverse();
  }
  if (!keepPage) state.page = 0;
  state.page = Math.min(state.page, Math.max(0, pages() - 1));
  renderRows();
  renderCharts();
  renderControls();
}

const pages = () => Math.max(1, Math.ceil(order.length / PAGE));

// --- counts -----------------------------------------------------------------------------------------

function tiles() {
  const tile = (value, label, small, kind) => el("div.tile" + (kind ? "." + kind : ""), null, el("b", null, value), el("span", null, label), small ? el("small", null, small) : null);
  const formats = Object.entries(report.formats).map(([format, n]) => `${grouped(n)} ${format}`).join(", ");
  const out = [
    tile(grouped(report.records), "records", report.empty_lines + report.broken_lines ? `${grouped(report.broken_lines)} broken, ${grouped(report.empty_lines)} empty lines` : null),
    tile(grouped(report.documents), "documents"),
    tile(grouped(report.images), "images", formats),
  ];
  if (report.total_tokens !== undefined) {
    const share = Math.round((100 * report.trained_tokens) / Math.max(1, report.total_tokens));
    out.push(tile(grouped(report.total_tokens), "tokens", `${share} % of them trained on`));
  }
  const current = report.at_max_pixels.find((at) => at.current);
  if (current && current.effective_dpi) {
    const low = current.effective_dpi.p50 < 100;
    out.push(tile(Math.round(current.effective_dpi.p50), "dpi reach the model", "the middle page", low ? "warn" : null));
  }
  out.push(tile(grouped(data.errors), data.errors === 1 ? "error" : "errors", null, data.errors ? "bad" : null));
  out.push(tile(grouped(data.warnings), data.warnings === 1 ? "warning" : "warnings", null, data.warnings ? "warn" : null));
  $("tiles").append(...out);
}

// --- histograms -------------------------------------------------------------------------------------

const BINS = 26;
// Even steps of a round width from the least to the 99th percentile; the last bar takes the rest.
function bins(quantity) {
  const sorted = Float64Array.from(quantity.known).sort();
  const low = sorted[0], high = sorted[sorted.length - 1];
  const end = high > 3 * sorted[Math.floor(0.99 * (sorted.length - 1))] ? sorted[Math.floor(0.99 * (sorted.length - 1))] : high;
  const rough = (end - low) / BINS || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  let step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((m) => m >= rough * 0.999);
  if (quantity.known.every(Number.isInteger)) step = Math.max(1, Math.ceil(step));
  const first = Math.floor(low / step) * step;
  const n = Math.max(1, Math.min(BINS + 2, Math.floor((end - first) / step) + 1));
  const out = [];
  for (let i = 0; i < n; i++) out.push({ from: first + i * step, to: first + (i + 1) * step, last: false });
  out[n - 1].last = true;
  out[n - 1].to = Math.max(high, out[n - 1].to);
  out.step = step;
  return out;
}
const place = (bins, value) => Math.min(bins.length - 1, Math.max(0, Math.floor((value - bins[0].from) / bins.step + 1e-9)));

function charts() {
  for (const quantity of drawn) {
    quantity.bins = bins(quantity);
    quantity.all = new Array(quantity.bins.length).fill(0);
    for (const value of quantity.known) quantity.all[place(quantity.bins, value)]++;
    const tallest = Math.max(...quantity.all);
    quantity.scale = (n) => (n ? Math.max(1.5, (100 * n) / tallest) : 0);
    const width = 100 / quantity.bins.length;
    quantity.parts = quantity.bins.map((bin, b) => {
      const x = b * width + width * 0.08, w = width * 0.84, height = quantity.scale(quantity.all[b]);
      const some = svg("rect", { class: "some", x, width: w, y: 100, height: 0 });
      const title = svg("title", {}, `${short(bin.from)} to ${short(bin.to)}: ${plural(quantity.all[b], "record")}`);
      const group = svg("g", {}, svg("rect", { class: "all", x, width: w, y: 100 - height, height }), some, svg("rect", { class: "hit", x: b * width, width, y: 0, height: 100 }), title);
      group.addEventListener("click", () => choose(quantity, b));
      return { group, some };
    });
    const picture = svg("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", tabindex: "0", role: "img" }, ...quantity.parts.map((p) => p.group));
    quantity.cursor = -1;
    picture.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (step) quantity.cursor = Math.min(quantity.bins.length - 1, Math.max(0, quantity.cursor + step));
      else if ((event.key === "Enter" || event.key === " ") && quantity.cursor >= 0) choose(quantity, quantity.cursor);
      else return;
      event.preventDefault();
      event.stopPropagation();
      quantity.parts.forEach((p, b) => p.group.classList.toggle("cursor", b === quantity.cursor));
    });
    picture.addEventListener("blur", () => quantity.parts.forEach((p) => p.group.classList.remove("cursor")));
    const sorted = Float64Array.from(quantity.known).sort();
    const at = (share) => short(sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(share * sorted.length) - 1))]);
    picture.setAttribute("aria-label", `${quantity.name}: half are at most ${at(0.5)}, 95 of 100 at most ${at(0.95)}. Arrow keys choose a bar, Enter filters by it.`);
    const last = quantity.bins[quantity.bins.length - 1];
    const rest = last.to - last.from > 1.5 * quantity.bins.step;
    const ends = [sorted[0], sorted[sorted.length - 1]].map(short);
    $("charts").append(el("div.chart", null,
      el("h3", null, quantity.name, el("span", { title: "Half of the records are at most the first, 95 of 100 at most the second" }, `p50 ${at(0.5)} · p95 ${at(0.95)}`)),
      picture,
      el("div.axis", null, el("span", null, ends[0]), el("span", null, rest ? `${short(last.from)} to ${ends[1]}` : ends[1]))));
  }
}

function choose(quantity, b) {
  const range = state.ranges[quantity.id];
  if (range && range.b === b) delete state.ranges[quantity.id];
  else state.ranges[quantity.id] = { ...quantity.bins[b], b };
  update();
}

function renderCharts() {
  const filtered = Object.keys(state.ranges).length || state.words.length || state.rule;
  for (const quantity of drawn) {
    const some = new Array(quantity.bins.length).fill(0);
    if (filtered) {
      // A chart's own range does not empty its other bars.
      const own = state.ranges[quantity.id];
      const count = (i) => { const value = quantity.values[i]; if (value !== null) some[place(quantity.bins, value)]++; };
      if (own) { for (let i = 0; i < rows.length; i++) if (passes(i, quantity.id)) count(i); } else order.forEach(count);
    }
    quantity.parts.forEach((part, b) => {
      const height = filtered ? quantity.scale(some[b]) : quantity.scale(quantity.all[b]);
      part.some.setAttribute("y", 100 - height);
      part.some.setAttribute("height", height);
      const range = state.ranges[quantity.id];
      part.group.classList.toggle("chosen", Boolean(range && range.b === b));
    });
  }
}

// --- the two tables of the whole file -----------------------------------------------------------------

function resolution() {
  const at = report.at_max_pixels;
  if (!at.length) return $("s-resolution").remove();
  const from = [];
  if (report.dpi_from.manifest) from.push(`${grouped(report.dpi_from.manifest)} from the manifest`);
  for (const [sheet, n] of Object.entries(report.dpi_from.assumed)) from.push(`${grouped(n)} assumed ${sheet} by the page's shape`);
  if (report.dpi_from.unknown) from.push(`${grouped(report.dpi_from.unknown)} unknown and left out`);
  $("resolution-hint").textContent = `At other pixel limits. Small print needs about 100 dpi. Dpi of image files: ${from.join(", ")}.` +
    (report.resize.assumed ? " Resized as the published Qwen3-VL models do." : "");
  const limits = at[0].limits.map((l) => l.max_tokens);
  const head = ["max_pixels", "image tokens p50", "p95", "effective dpi p5", "p50", "p95", "pages under 100 dpi", ...limits.map((l) => `over ${grouped(l)} tokens`)];
  $("resolution").append(
    el("thead", null, el("tr", null, head.map((name, i) => el("th" + (i ? ".num" : ""), { scope: "col" }, name)))),
    el("tbody", null, at.map((row) => {
      const dpi = row.effective_dpi;
      const share = dpi ? Math.round((100 * row.pages_under_100_dpi) / dpi.count) : null;
      const cell = (value, low) => el("td.num" + (low ? ".low" : ""), null, value === null ? "–" : value);
      return el("tr" + (row.current ? ".current" : ""), null,
        el("td", null, grouped(row.max_pixels) + (row.current ? " (in use)" : "")),
        cell(grouped(row.image_tokens.p50)), cell(grouped(row.image_tokens.p95)),
        ...["p5", "p50", "p95"].map((p) => cell(dpi ? Math.round(dpi[p]) : null, dpi && dpi[p] < 100)),
        cell(share === null ? null : `${share} %`, share > 50),
        ...row.limits.map((l) => cell(grouped(l.over), l.over > 0)));
    })));
}

function keys() {
  if (!report.keys.length) return $("s-keys").remove();
  const percent = (n, of) => Math.round((100 * n) / Math.max(1, of));
  $("keys").append(
    el("thead", null, el("tr", null, ["field", "filled", "type", "different", "values"].map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", null, report.keys.map((key) => {
      const share = percent(key.filled, key.of);
      const types = Object.entries(key.types);
      const type = types.length === 1 ? types[0][0] : types.map(([kind, n]) => `${kind} ${grouped(n)}`).join(", ");
      const facts = [];
      if (key.numbers) facts.push(`${short(key.numbers.min)} to ${short(key.numbers.max)}, mean ${short(key.numbers.mean)}`);
      else if (key.chars && !key.top.length) facts.push(`${key.chars.min} to ${key.chars.max} characters`);
      return el("tr", null,
        el("td", null, el("code", null, key.key)),
        el("td", { style: "white-space: nowrap" }, el("span.share", null, el("i", { style: `width: ${share}%` })), `${share} %`, el("span.muted", null, `  of ${grouped(key.of)}`)),
        el("td" + (types.length > 1 ? ".low" : ""), null, type),
        el("td.num", null, key.distinct ? grouped(key.distinct) + (key.distinct_at_least ? "+" : "") : ""),
        el("td", null, facts.length ? el("span.muted", null, facts.join("; ") + "  ") : null,
          key.top.slice(0, 6).map((v) => el("button.value", { type: "button", title: `${v.value}: ${grouped(v.count)}`, onclick: () => searchFor(v.value) }, v.value + " ", el("em", null, `${percent(v.count, key.filled)} %`)))));
    })));
}

function searchFor(text) {
  $("search").value = state.search = text.replace(/…$/, "");
  update();
  $("h-records").scrollIntoView();
}

// --- the records --------------------------------------------------------------------------------------

const COLUMNS = [
  { id: "page", name: "Page" },
  { id: "id", name: "Record", sort: true },
  { id: "worst", name: "Marks", sort: true },
  ...["tokens", "dpi", "chars", "filled"].filter((id) => byId[id].known.length).map((id) => ({ id, name: byId[id].head || byId[id].name, title: byId[id].name, sort: true, num: true })),
  { id: "answer", name: "Answer" },
];

function tableHead() {
  const cells = COLUMNS.map((column) => {
    const cell = el("th" + (column.num ? ".num" : ""), { scope: "col" });
    if (column.sort) cell.append(el("button", { type: "button", title: column.title, onclick: () => sortBy(column.id) }, column.name));
    else cell.append(column.name);
    column.cell = cell;
    return cell;
  });
  $("records").tHead.append(el("tr", null, cells));
}

function sortBy(id) {
  if (state.sort === id) state.down = !state.down;
  else Object.assign(state, { sort: id, down: Boolean(byId[id]) && id !== "dpi" && id !== "filled" });
  update();
}

// The words searched for, marked.
function marked(text) {
  const words = state.words.filter((word) => word.length > 1);
  if (!words.length) return [text];
  const pattern = new RegExp(words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|"), "gi");
  const out = [];
  let at = 0;
  for (const match of text.matchAll(pattern)) {
    out.push(text.slice(at, match.index), el("mark", null, match[0]));
    at = match.index + match[0].length;
  }
  out.push(text.slice(at));
  return out;
}

function parsed(row) {
  if (row.cut) return undefined;
  try { return JSON.parse(row.answer); } catch { return undefined; }
}

// What is filled, as pairs; lists of objects by their number and first item.
function pairs(value, most) {
  const out = [];
  const walk = (name, value) => {
    if (out.length >= most || value === null || value === "" || value === undefined) return;
    if (Array.isArray(value)) {
      if (!value.length) return;
      if (value.every((item) => typeof item !== "object" || item === null)) return out.push([name, value.join(", ")]);
      out.push([`${name}`, value.length === 1 ? one(value[0]) : `${value.length} ×  ${one(value[0])}`]);
    } else if (typeof value === "object") {
      for (const [key, inner] of Object.entries(value)) walk(name ? `${name}.${key}` : key, inner);
    } else out.push([name, String(value)]);
  };
  const one = (item) => (typeof item === "object" && item !== null ? Object.values(item).filter((v) => v !== null && v !== "" && typeof v !== "object").join(" · ") : String(item));
  walk("", value);
  return out;
}

function preview(row) {
  const value = parsed(row);
  if (value === undefined || typeof value !== "object" || value === null) return el("div.raw.mono", null, marked(row.answer.slice(0, 400)));
  const found = pairs(value, 12);
  if (!found.length) return el("span.clean", null, "nothing filled");
  return el("dl.pairs", null, found.flatMap(([name, text]) => [el("dt", { title: name }, name), el("dd", { title: text }, marked(text.slice(0, 160)))]));
}

function marksOf(row, most) {
  if (!row.marks.length) return [el("span.clean", null, "nothing found")];
  const seen = new Set();
  const out = [];
  for (const [rule, message] of row.marks) {
    if (seen.has(rule)) continue;
    seen.add(rule);
    if (out.length < most) out.push(el(`span.mark.l${rules[rule][1]}`, { title: message }, rules[rule][0]));
  }
  if (seen.size > most) out.push(el("span.clean", null, `+${seen.size - most}`));
  return out;
}

function picture(row) {
  if (!row.images.length) return el("div.none", null, row.unreadable ? "image missing" : "no image");
  const source = thumbnail(row.images[0]);
  const more = row.images.length > 1 ? el("small", null, `${row.images.length} images`) : null;
  if (!source) return [el("div.none", null, "no thumbnail"), more];
  return [el("img", { src: source, alt: `first page of ${row.id}`, loading: "lazy" }), more];
}

function cellOf(column, row, i, index) {
  switch (column.id) {
    case "page": return el("td.thumb", null, picture(row));
    case "id": return el("td.who", null,
      el("button", { type: "button", "data-index": index, onclick: (event) => { event.stopPropagation(); open(index); } }, marked(row.id || `line ${row.line}`)),
      row.document && row.document !== row.id ? el("small", null, marked(row.document)) : null,
      el("small.muted", null, `line ${grouped(row.line)}`));
    case "worst": return el("td.marks", null, marksOf(row, 5));
    case "answer": return el("td.answer", null, preview(row));
    default: {
      const value = byId[column.id].values[i];
      const low = column.id === "dpi" && value !== null && value < 100;
      const text = value === null ? "–" : column.id === "filled" ? `${Math.round(value)} %` : grouped(value);
      return el("td.num.nums" + (low ? ".low" : ""), null, text);
    }
  }
}

function renderRows() {
  const from = state.page * PAGE;
  const body = $("records").tBodies[0];
  const shown = order.slice(from, from + PAGE);
  body.replaceChildren(...shown.map((i, at) => {
    const row = rows[i];
    return el("tr", { "data-line": row.line, onclick: () => open(from + at) }, COLUMNS.map((column) => cellOf(column, row, i, from + at)));
  }));
  if (!shown.length) body.append(el("tr", null, el("td.empty", { colspan: COLUMNS.length }, "No record is left. ", el("button", { type: "button", onclick: clear }, "Clear all filters"))));
}

function renderControls() {
  const from = state.page * PAGE;
  const n = order.length;
  let text = n ? `${grouped(from + 1)} to ${grouped(Math.min(n, from + PAGE))} of ${plural(n, "record")}` : "no record";
  if (n < rows.length) text += `, out of ${grouped(rows.length)}`;
  if (data.shown < data.of) text += ` (the worst ${grouped(data.shown)} of ${grouped(data.of)} are on this page)`;
  $("count").textContent = text;
  $("page").value = state.page + 1;
  $("page").max = pages();
  $("pages").textContent = grouped(pages());
  $("previous").disabled = state.page === 0;
  $("next").disabled = state.page + 1 >= pages();
  for (const column of COLUMNS) {
    if (column.id === state.sort) column.cell.setAttribute("aria-sort", state.down ? "descending" : "ascending");
    else column.cell.removeAttribute("aria-sort");
  }
  $("sort").value = [state.sort, state.down ? "down" : "up"].join(" ");
  $("rule").value = state.rule;
  $("chips").replaceChildren(...Object.entries(state.ranges).map(([id, range]) =>
    el("button.chip", { type: "button", title: "Remove this filter", onclick: () => { delete state.ranges[id]; update(); } }, `${byId[id].name}: ${short(range.from)} to ${short(range.to)}`)));
}

function turn(by) {
  const page = Math.min(pages() - 1, Math.max(0, state.page + by));
  if (page === state.page) return;
  state.page = page;
  renderRows();
  renderControls();
}

function clear() {
  Object.assign(state, { search: "", rule: "", ranges: {} });
  $("search").value = "";
  update();
}

// --- one record -----------------------------------------------------------------------------------------

let opened = -1;

// JSON in its own layout, with keys and empty values told apart.
function pretty(value, indent = "") {
  const deeper = indent + "  ";
  if (value === null || value === "") return [el("span.z", null, JSON.stringify(value))];
  if (typeof value !== "object") return [typeof value === "string" ? JSON.stringify(value) : el("span.n", null, String(value))];
  const list = Array.isArray(value);
  const entries = list ? value.map((item) => [null, item]) : Object.entries(value);
  if (!entries.length) return [el("span.z", null, list ? "[]" : "{}")];
  const out = [list ? "[\n" : "{\n"];
  entries.forEach(([key, item], i) => {
    out.push(deeper);
    if (key !== null) out.push(el("span.k", null, JSON.stringify(key)), ": ");
    out.push(...pretty(item, deeper), i + 1 < entries.length ? ",\n" : "\n");
  });
  out.push(indent + (list ? "]" : "}"));
  return out;
}

function open(index) {
  if (index < 0 || index >= order.length) return;
  opened = index;
  const row = rows[order[index]];
  const value = parsed(row);
  $("d-title").textContent = row.id || `line ${row.line}`;
  $("d-previous").disabled = index === 0;
  $("d-next").disabled = index + 1 >= order.length;
  const facts = [["line", grouped(row.line)], ["document", row.document]];
  if (row.tokens) facts.push(["tokens", grouped(row.tokens[0])], ["of images", grouped(row.tokens[1])], ["trained", grouped(row.tokens[2])]);
  if (row.filled[1]) facts.push(["fields filled", `${row.filled[0]} of ${row.filled[1]}`]);
  const pictures = row.images.map((image, i) => {
    const [path, width, height, bytes, dpi, from, , link] = images[image];
    const source = thumbnail(image);
    const said = [`${width} × ${height}`, kib(bytes)];
    if (dpi !== null) said.push(from === "manifest" ? `${short(dpi)} dpi` : `${short(dpi)} dpi if it is ${from}`);
    const name = link ? el("a", { href: link.split("/").map(encodeURIComponent).join("/"), target: "_blank", rel: "noopener", title: "Open the image itself" }, path) : path;
    return el("figure", null, source ? el("img", { src: source, alt: `image ${i + 1} of ${row.id}` }) : null, el("figcaption", null, name, el("br"), said.join(", ")));
  });
  if (row.unreadable) pictures.push(el("p.clean", null, `${plural(row.unreadable, "image")} could not be read`));
  const marks = row.marks.map(([rule, message, hint]) => el("li", null, el(`span.mark.l${rules[rule][1]}`, { title: rules[rule][2] }, rules[rule][0]), message, hint ? el("small", null, hint) : null));
  const text = el("div.d-text", null,
    el("div.facts", null, facts.filter(([, fact]) => fact).map(([name, fact]) => el("span", null, `${name} `, el("b", null, fact)))),
    el("h4", null, "Marks"), marks.length ? el("ul", null, marks) : el("p.clean", null, "nothing found"),
    el("h4", null, row.prompt === undefined ? "Line" : "Answer"),
    el("pre", null, value === undefined ? marked(row.answer) : pretty(value)),
    row.cut ? el("p.clean", null, `${plural(row.cut, "more character")} in the file`) : null,
    row.prompt === undefined ? null : [el("h4", null, "Prompt"), el("pre", null, prompts[row.prompt])]);
  $("d-body").replaceChildren(el("div.d-pages", null, pictures.length ? pictures : el("p.clean", null, "no image")), text);
  $("d-body").scrollTop = 0;
  if (!$("detail").open) $("detail").showModal();
}

function closed() {
  if (opened < 0) return;
  const page = Math.floor(opened / PAGE);
  if (page !== state.page) { state.page = page; renderRows(); renderControls(); }
  const button = document.querySelector(`[data-index="${opened}"]`);
  if (button) button.focus();
}

// --- keys and controls ------------------------------------------------------------------------------------

function step(by) {
  const buttons = [...document.querySelectorAll(".who button")];
  if (!buttons.length) return;
  const at = buttons.indexOf(document.activeElement);
  const next = buttons[Math.min(buttons.length - 1, Math.max(0, at + by))];
  next.focus();
  next.closest("tr").scrollIntoView({ block: "nearest" });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
  if ($("detail").open) {
    if (event.key === "ArrowLeft" || event.key === "k") open(opened - 1);
    else if (event.key === "ArrowRight" || event.key === "j") open(opened + 1);
    else return;
  } else if (event.key === "Escape" && typing) event.target.blur();
  else if (typing) return;
  else if (event.key === "/") $("search").focus();
  else if (event.key === "ArrowLeft") turn(-1);
  else if (event.key === "ArrowRight") turn(1);
  else if (event.key === "j") step(1);
  else if (event.key === "k") step(-1);
  else return;
  event.preventDefault();
});

let waiting = 0;
$("search").addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => { state.search = $("search").value; update(); }, 120);
});
$("rule").addEventListener("change", () => { state.rule = $("rule").value; update(); });
$("sort").addEventListener("change", () => {
  const [sort, way] = $("sort").value.split(" ");
  Object.assign(state, { sort, down: way === "down" });
  update();
});
$("previous").addEventListener("click", () => turn(-1));
$("next").addEventListener("click", () => turn(1));
$("page").addEventListener("change", () => turn((Number($("page").value) || 1) - 1 - state.page));
$("d-previous").addEventListener("click", () => open(opened - 1));
$("d-next").addEventListener("click", () => open(opened + 1));
$("d-close").addEventListener("click", () => $("detail").close());
$("detail").addEventListener("close", closed);
$("detail").addEventListener("click", (event) => { if (event.target === $("detail")) $("detail").close(); });

function controls() {
  const counts = new Map();
  for (const row of rows) for (const rule of new Set(row.marks.map(([rule]) => rule))) counts.set(rule, (counts.get(rule) || 0) + 1);
  const option = (value, text) => el("option", { value }, text);
  const listed = [...counts].sort(([a, n], [b, m]) => rules[a][1] - rules[b][1] || m - n);
  const words = ["errors", "warnings", "notes"];
  $("rule").append(option("", "All records"), option("any", "With any mark"));
  for (const level of [0, 1, 2]) {
    const mine = listed.filter(([rule]) => rules[rule][1] === level);
    if (!mine.length) continue;
    $("rule").append(el("optgroup", { label: words[level] }, option(`level:${level}`, `With ${words[level]}`), mine.map(([rule, n]) => option(`rule:${rule}`, `${rules[rule][0]} (${grouped(n)})`))));
  }
  $("sort").append(option("worst up", "Worst first"), option("worst down", "Best first"), option("line up", "By line"), option("line down", "By line, last first"), option("id up", "By id"), option("id down", "By id, last first"));
  for (const q of drawn) $("sort").append(option(`${q.id} down`, `${q.name}, most first`), option(`${q.id} up`, `${q.name}, least first`));
}

const root = document.documentElement;
function theme(dark) {
  root.dataset.theme = dark ? "dark" : "light";
  $("theme").textContent = dark ? "Light" : "Dark";
}
const prefers = matchMedia("(prefers-color-scheme: dark)");
theme(prefers.matches);
prefers.addEventListener("change", (event) => theme(event.matches));
$("theme").addEventListener("click", () => theme(root.dataset.theme !== "dark"));

tiles();
controls();
charts();
resolution();
keys();
tableHead();
update();
$("footer").textContent = `Written by vlft ${data.version}; nothing on this page is loaded from anywhere. ` +
  (data.without_thumbnail ? `${plural(data.without_thumbnail, "image")} without a thumbnail: not decodable, or beyond the size this page may have.` : "");
root.dataset.ready = "true";
})();
