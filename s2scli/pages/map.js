"use strict";

/** The 64 steps of a weight, as the page's maker wrote them (pages/maps.py). */
const LEVELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const STEP = new Map([...LEVELS].map((letter, i) => [letter, i / (LEVELS.length - 1)]));

/** The weights of a map: for each target token a list of numbers, one for each source token. */
function weightsOf(map) {
  const rows = map.t.length ? map.w.split(" ") : [];
  return rows.map((row) => {
    const whole = row.replace(/\((\d+)\)/g, (_, zeros) => "A".repeat(Number(zeros)));
    return Array.from(whole, (letter) => STEP.get(letter));
  });
}

/** A token as a label; what marks a space before it is set back. */
function tokenLabel(token) {
  const shown = token.replace(/[\p{Cc}\p{Zl}\p{Zp}]/gu, "\ufffd");
  const begins = shown.length > 1 && shown.startsWith("▁");
  return el("span", { dir: "auto", title: shown },
    begins ? el("span", { class: "space" }, "▁") : null, begins ? shown.slice(1) : shown);
}

/**
 * A map as a grid: source tokens above, target tokens beside it. Call `fitMap` when it stands in the page.
 * Pointing, tapping and the arrow keys tell a weight in words.
 */
function drawMap(map) {
  const weights = weightsOf(map);
  const columns = map.s.map((token) => el("th", { scope: "col" }, tokenLabel(token)));
  const heads = map.t.map((token) => el("th", { scope: "row" }, tokenLabel(token)));
  const cells = weights.map((row) => row.map((weight) => {
    const percent = Math.round(100 * weight);
    const cell = el("td", { tabindex: -1, class: weight > 0.55 ? "strong" : null },
      percent >= 10 ? String(percent) : null);
    if (weight > 0) cell.style.setProperty("--a", weight);
    return cell;
  }));
  const body = heads.map((head, t) => el("tr", {}, head, ...cells[t]));
  const name = "Attention: rows are target tokens, columns source tokens";
  const table = el("table", { role: "grid", "aria-label": name },
    el("thead", {}, el("tr", {}, el("td", { class: "corner" }), ...columns)), el("tbody", {}, ...body));
  const rest = "Rows: target tokens as they were written. Columns: source tokens. Numbers: percent of the "
    + "attention, from 10 on. Point at a cell or use the arrow keys.";
  const readout = el("p", { class: "readout muted", "aria-live": "polite" }, rest);
  let marked = [];

  function tell(t, s) {
    for (const head of marked) head.classList.remove("here");
    marked = [heads[t], columns[s]];
    for (const head of marked) head.classList.add("here");
    const percent = Math.round(100 * weights[t][s]);
    readout.replaceChildren(el("b", {}, `${percent} %`), " of the attention for ",
      el("bdi", {}, map.t[t]), ` (token ${t + 1}) is on `, el("bdi", {}, map.s[s]), ` (token ${s + 1})`);
  }
  function place(target) {
    const cell = target.closest("tbody td");
    return cell && [cell.parentNode.rowIndex - 1, cell.cellIndex - 1];
  }
  for (const kind of ["pointerover", "click", "focusin"]) {
    table.addEventListener(kind, (event) => {
      const at = place(event.target);
      if (at) tell(...at);
    });
  }
  table.addEventListener("keydown", (event) => {
    const at = place(event.target);
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!at || !step) return;
    event.preventDefault();
    event.stopPropagation();
    const next = cells[at[0] + step[0]]?.[at[1] + step[1]];
    if (!next) return;
    event.target.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
  if (cells.length) cells[0][0].tabIndex = 0;
  return el("figure", { class: "map" }, readout, el("div", { class: "map-scroll" }, table));
}

/** Make room for the slanted labels, whose size is known only in the page. */
function fitMap(figure) {
  const angle = 58 * Math.PI / 180;
  const labels = [...figure.querySelectorAll("thead span[dir]")];
  const widest = Math.max(0, ...labels.map((label) => label.offsetWidth));
  const head = figure.querySelector("thead tr");
  head.style.height = `${Math.ceil(widest * Math.sin(angle) + 18)}px`;
  // How far each label reaches beyond the last column; a column takes 31 pixels.
  const over = labels.map((label, i) =>
    label.offsetWidth * Math.cos(angle) + 14 - 31 * (labels.length - 1 - i));
  figure.querySelector("table").style.marginRight = `${Math.ceil(Math.max(8, ...over) + 8)}px`;
}
