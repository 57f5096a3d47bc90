"use strict";

/** Few maps are all open; many are opened one by one. */
const OPEN = 20;

for (const [i, line] of data.lines.entries()) {
  const content = el("div", {});
  const card = el("details", { class: "line card" },
    el("summary", {}, el("b", {}, String(line.n)), sentence(line.source)), content);
  const draw = () => {
    if (!card.open || content.firstChild) return;
    const figure = drawMap(line.map);
    const target = sentence(line.target || "(nothing)", "dd");
    content.append(el("dl", {}, el("dt", {}, "Translation"), target), figure);
    fitMap(figure);
  };
  card.addEventListener("toggle", draw);
  document.getElementById("lines").append(card);
  card.open = data.lines.length <= OPEN || i === 0;
  draw();
}
