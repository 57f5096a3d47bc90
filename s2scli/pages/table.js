"use strict";

/** Rows that the table shows at first, and that a click adds. */
const PORTION = 100;
/** The lines that the page shows: s source, r reference, h hypothesis, q score, l length, m map, n number. */
const lines = data.sentences.rows.map((row, i) => ({ ...row, n: i + 1 }));

const { metric: METRIC, higher: HIGHER, unit: UNIT } = data.sentences;
const collator = new Intl.Collator();
/** What the table can be sorted by; `first` is 1 for ascending, the direction of a first click. */
const ORDERS = {
  n: { label: "Line", compare: (a, b) => a.n - b.n, first: 1 },
  s: { label: "Source", compare: (a, b) => collator.compare(a.s, b.s), first: 1 },
  q: { label: METRIC, compare: (a, b) => a.q - b.q, first: HIGHER ? 1 : -1 },
  l: { label: UNIT[0].toUpperCase() + UNIT.slice(1), compare: (a, b) => a.l - b.l, first: -1 },
};

/** A score of a line, with a stroke as long as it is good. */
function pill(score) {
  const share = HIGHER ? score / 100 : 1 - score / 100;
  const node = el("span", { class: "pill" }, number(score, 1));
  node.style.setProperty("--share", Math.max(0, Math.min(1, share)));
  return node;
}

/** Put text into a node, what is searched for marked. */
function fillMarked(node, text, query) {
  const parts = [];
  let end = 0;
  if (query) {
    const wanted = new RegExp(query.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&"), "giu");
    for (const found of text.matchAll(wanted)) {
      parts.push(text.slice(end, found.index), el("mark", {}, found[0]));
      end = found.index + found[0].length;
    }
  }
  node.replaceChildren(...parts, text.slice(end));
}

/** Why a line has no map. */
function noMap(line) {
  if (!data.attention) {
    return "This model has no attention, so there is no map: between source and target stands one vector.";
  }
  if (!line.s.trim()) return "A blank line has no attention.";
  return "The map of this long line was left out, so that the page stays small.";
}

/** Show a line in the dialog; `among` is the list that the two arrows walk. */
function openLine(line, among) {
  const dialog = document.getElementById("sentence");
  const at = among.indexOf(line);
  const go = (step) => among[at + step] && openLine(among[at + step], among);
  const button = (text, label, step) => el("button",
    { type: "button", "aria-label": label, disabled: !among[at + step], onclick: () => go(step) }, text);
  const rows = [
    ["Source", sentence(line.s, "dd")],
    ["Reference", sentence(line.r, "dd")],
    ["Translation", sentence(line.h || "(nothing)", "dd")],
    [METRIC, el("dd", {}, `${number(line.q, 1)} (${HIGHER ? "higher" : "lower"} is better)`)],
    ["Source length", el("dd", {}, `${number(line.l)} ${UNIT}`)],
  ];
  const about = el("dl", { class: "facts" }, ...rows.flatMap(([name, node]) => [el("dt", {}, name), node]));
  const figure = line.m ? drawMap(line.m) : el("p", { class: "muted" }, noMap(line));
  const head = el("h2", { id: "sentence-title", tabindex: -1, autofocus: true }, `Line ${number(line.n)}`);
  dialog.replaceChildren(
    el("div", { class: "bar" }, head,
      button("←", "Previous line", -1), button("→", "Next line", 1),
      el("button", { type: "button", onclick: () => dialog.close() }, "Close")),
    el("div", { class: "inside" }, about, el("h3", {}, "Attention"), figure));
  dialog.onkeydown = (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) go(step);
  };
  dialog.onclick = (event) => {
    if (event.target === dialog) dialog.close();
  };
  if (!dialog.open) dialog.showModal();
  head.focus();
  dialog.scrollTop = 0;
  if (line.m) fitMap(figure);
}

/** The row of a line; `among` gives the list that it stands in when it is opened. */
function makeRow(line, among) {
  const cell = (name, label, child) => el("td", { class: name, "data-label": label }, child);
  line.texts = ["s", "h", "r"].map((name) => sentence(line[name], "div"));
  line.hay = `${line.s}\n${line.h}\n${line.r}`.normalize("NFC").toLowerCase();
  line.row = el("tr", { onclick: () => openLine(line, among()) },
    cell("n", "Line", el("button", { type: "button", "aria-label": `Open line ${line.n}` }, number(line.n))),
    cell("s", "Source", line.texts[0]),
    cell("h", "Translation", line.texts[1]),
    cell("r", "Reference", line.texts[2]),
    cell("q", METRIC, pill(line.q)),
    cell("w", ORDERS.l.label, number(line.l)));
}

/** The choice of an order, for screens without the heads of the columns; calls `sort(name, direction)`. */
function orderChoice(sort) {
  const choices = [
    ["n 1", "Line"], ["n -1", "Last line first"],
    [`q ${HIGHER ? -1 : 1}`, `${METRIC}, best first`], [`q ${HIGHER ? 1 : -1}`, `${METRIC}, worst first`],
    ["l -1", "Longest first"], ["l 1", "Shortest first"],
    ["s 1", "Source, A to Z"], ["s -1", "Source, Z to A"],
  ];
  const choose = (event) => {
    const [name, direction] = event.target.value.split(" ");
    sort(name, Number(direction));
  };
  return el("select", { id: "order", onchange: choose },
    ...choices.map(([value, text]) => el("option", { value }, text)));
}

/** The table of all lines: search above it, a click on a head sorts, a click on a row opens the line. */
function showTable() {
  const count = el("output", { "aria-live": "polite" });
  const body = el("tbody", {});
  const none = el("tr", {}, el("td", { colspan: 6, class: "none" }, "No line holds this."));
  const { total } = data.sentences;
  const all = total > lines.length ? `${number(lines.length)} shown of ${plural(total, "line")}`
    : plural(lines.length, "line");
  let key = "n", direction = 1, query = "", visible = lines, most = PORTION;

  function sort(name, way) {
    [key, direction] = [name, way];
    lines.sort((a, b) => way * ORDERS[name].compare(a, b) || a.n - b.n);
    for (const [head, cell] of Object.entries(heads)) {
      if (head === name) cell.setAttribute("aria-sort", way > 0 ? "ascending" : "descending");
      else cell.removeAttribute("aria-sort");
    }
    order.value = `${name} ${way}`;
    show(PORTION);
  }
  function show(rows) {
    most = rows;
    visible = lines.filter((line) => line.hay.includes(query.toLowerCase()));
    const part = visible.slice(0, most);
    for (const line of part) {
      // Marks are made anew only where there were or will be some.
      if (query || line.marked) line.texts.forEach((node, i) => fillMarked(node, line["shr"[i]], query));
      line.marked = Boolean(query);
    }
    body.replaceChildren(...(part.length ? part.map((line) => line.row) : [none]));
    more.hidden = part.length === visible.length;
    count.textContent = visible.length === lines.length ? all : `${number(visible.length)} of ${all}`;
  }

  for (const line of lines) makeRow(line, () => visible);
  const plain = (text) => el("th", { scope: "col" }, el("span", {}, text));
  const heads = {};
  for (const [name, { label, first }] of Object.entries(ORDERS)) {
    const click = () => sort(name, key === name ? -direction : first);
    const button = el("button", { type: "button", onclick: click }, label);
    heads[name] = el("th", { scope: "col", class: name === "l" ? "w" : name }, button);
  }
  const columns = [heads.n, heads.s, plain("Translation"), plain("Reference"), heads.q, heads.l];
  const table = el("table", {}, el("thead", {}, el("tr", {}, ...columns)), body);
  const find = el("input", {
    type: "search", id: "find", autocomplete: "off", placeholder: "part of a source or translation",
    oninput: (event) => {
      query = event.target.value.normalize("NFC").trim();
      show(PORTION);
    },
  });
  const order = orderChoice(sort);
  const more = el("div", { class: "more" },
    el("button", { type: "button", onclick: () => show(most + PORTION) }, `Show ${PORTION} more`),
    el("button", { type: "button", onclick: () => show(lines.length) }, "Show all"));
  body.addEventListener("keydown", (event) => {
    const step = { ArrowUp: "previousElementSibling", ArrowDown: "nextElementSibling" }[event.key];
    const next = step && event.target.closest("tr")?.[step]?.querySelector("button");
    if (next) {
      event.preventDefault();
      next.focus();
    }
  });
  section("lines", "Translations", "Translations",
    "A click on a line, or Enter on its number, shows its attention.",
    el("div", { class: "tools" },
      el("label", { class: "find" }, "Search", find), el("label", {}, "Sort by", order), count),
    el("div", { class: "lines card" }, table, more));
  sort("n", 1);
}
