"use strict";

const main = document.getElementById("main");

/** A section with a heading, and its link in the navigation. */
function section(id, title, short, lead, ...children) {
  document.getElementById("sections").append(el("a", { href: `#${id}` }, short));
  main.append(el("section", { id, "aria-labelledby": `${id}-title` }, el("h2", { id: `${id}-title` }, title),
    lead && el("p", { class: "muted" }, lead), ...children));
}

function facts(rows, heading = null) {
  return el("div", { class: "card" }, heading && el("h3", {}, heading),
    el("dl", { class: "columns" }, ...rows.map(([name, value]) =>
      el("div", {}, el("dt", {}, name), el("dd", {}, value)))));
}

function numbers(heads, rows, names = 1) {
  const cell = (kind, value, i) => el(kind, { class: i < names ? "name" : null }, value);
  return el("div", { class: "scroll" }, el("table", { class: "numbers" },
    el("thead", {}, el("tr", {}, ...heads.map((head, i) => cell("th", head, i)))),
    el("tbody", {}, ...rows.map((row) => el("tr", {}, ...row.map((value, i) => cell("td", value, i)))))));
}

function showHead() {
  const head = document.getElementById("head");
  head.append(el("h1", {}, data.name), ...data.facts.map((fact) => el("p", { class: "lead" }, fact)));
  if (data.notes.length) {
    head.append(el("div", { class: "notes", role: "note" }, ...data.notes.map((note) => el("p", {}, note))));
  }
  document.getElementById("foot").append(
    `Made by s2s ${data.version}. This file holds all it shows and connects to nothing.`);
}

function showScores() {
  const cards = data.scores.map((score) => el("div", { class: "card score" },
    el("h3", {}, score.name), el("b", {}, number(score.score, 1)),
    el("div", {}, `95 % interval ${number(score.low, 1)} to ${number(score.high, 1)}`),
    el("div", { class: "muted small" }, score.higher ? "higher is better" : "lower is better")));
  const signatures = data.scores.map((score) => el("p", {},
    el("strong", {}, score.name), " ", el("code", {}, score.signature),
    score.details ? el("span", { class: "muted" }, ` (${score.details})`) : null));
  section("scores", "Scores", "Scores",
    "Over the whole set. An interval comes from drawing the lines anew, with replacement: had other "
      + "sentences of the same kind been translated, the score would most likely lie within it.",
    el("div", { class: "grid scores" }, ...cards),
    el("details", { class: "signatures small" }, el("summary", {}, "Signatures"), ...signatures));
}

function showLengths() {
  const { unit, charts } = data.lengths;
  section("length", "Quality by source length", "Length",
    `Lines in groups by the ${unit} of their source. Paler bars stand for fewer than ${FEW} lines, `
      + "whose score says little.",
    el("div", { class: "grid" }, ...charts.map((chart) => barChart({
      title: `${chart.name} by ${unit} of the source`, unit, name: chart.name, bars: chart.bars,
    }))));
}

function showTraining() {
  const training = data.training;
  if (!training) {
    section("training", "Training", "Training",
      "This run folder has no record of its training (metrics.jsonl).");
    return;
  }
  const charts = [];
  if (training.loss.length) {
    charts.push(lineChart({
      title: "Loss", xName: "updates", yName: "nats per target token", series: training.loss, digits: 3,
    }));
  }
  if (training.quality.length) {
    charts.push(lineChart({
      title: `${training.score} and chrF in validation`, xName: "updates", yName: "score", series: training.quality,
      digits: 1, zero: true,
    }));
  }
  const rows = training.validations.map(([step, loss, score, chrf, best]) => [
    number(step), number(loss, 3), number(score, 2), number(chrf, 2), best ? "best so far" : ""]);
  section("training", "Training", "Training", null,
    el("div", { class: "grid" }, ...charts), el("div", { class: "gap" }), facts(training.facts, "Settings"),
    rows.length ? el("details", { class: "signatures small" },
      el("summary", {}, "The validations in numbers"),
      numbers(["update", "loss", training.score, "chrF", ""], rows)) : null);
}

function showData() {
  if (!data.data) {
    section("data", "Data", "Data", "There is no report on the data that could be shown (data/report.json).");
    return;
  }
  const rows = data.data.sets.map(([name, side, pairs, total, mean, high, longest], i) => [
    i % 2 ? "" : name, side, number(pairs), number(total), number(mean, 1), number(high), number(longest)]);
  section("data", "Data", "Data", null,
    el("div", { class: "card" }, el("h3", {}, "Sets, and the lengths of their lines in tokens"),
      numbers(["set", "side", "lines", "tokens", "mean", "99 % up to", "longest"], rows, 2)),
    el("div", { class: "gap" }), facts(data.data.facts, "What was read and what was left out"));
}

function showPicks() {
  const count = Math.min(5, Math.floor(lines.length / 2));
  if (!count) return;
  const better = data.sentences.higher ? -1 : 1;
  // Among equals the longest says the most.
  const order = lines.filter((line) => line.s.trim()).sort((a, b) => better * (a.q - b.q) || b.l - a.l);
  const worst = order.slice().sort((a, b) => better * (b.q - a.q) || b.l - a.l);
  const list = (title, chosen) => el("div", { class: "card" }, el("h3", {}, title),
    el("ul", { class: "picks" }, ...chosen.map((line) => el("li", {},
      el("button", { type: "button", onclick: () => openLine(line, chosen) },
        pill(line.q), sentence(line.s, "div"), sentence(line.h || "(nothing)", "div"))))));
  section("best", "Best and worst", "Best and worst",
    `By ${data.sentences.metric} of the single line, of ${lines.length === data.sentences.total
      ? "all lines" : `the ${plural(lines.length, "line")} shown`}. Above the source, below it the translation; `
      + "a click shows more.",
    el("div", { class: "grid" }, list("Best", order.slice(0, count)), list("Worst", worst.slice(0, count))));
  for (const text of document.querySelectorAll(".picks .pill + .text")) text.classList.add("source");
}

showHead();
showScores();
showLengths();
showTraining();
showData();
showPicks();
showTable();
