"use strict";

/** Pixels around the area of a line chart, and its height in all. */
const FRAME = { left: 52, right: 14, top: 32, bottom: 42, height: 260 };
/** Lines of fewer than this are too few for a score to say much. */
const FEW = 20;

/** An SVG element. */
function svg(name, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

/** A picture of this size, described in words for those who do not see it. */
function picture(width, height, words, ...children) {
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": words },
    ...children);
}

/** Round numbers that cover low to high in about `count` steps. */
function ticks(low, high, count) {
  const span = high - low || Math.abs(high) || 1;
  const power = 10 ** Math.floor(Math.log10(span / count));
  const step = [1, 2, 5, 10].find((factor) => span / (factor * power) <= count) * power;
  const first = Math.floor(low / step + 1e-9);
  const last = Math.max(first + 1, Math.ceil(high / step - 1e-9));
  return Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step);
}

/** 1500 → "1,500"; as many decimals as tell two ticks apart. */
function tickLabel(value, all) {
  return number(value, Math.max(0, -Math.floor(Math.log10(all[1] - all[0]) + 1e-9)));
}

/** The index of the number in a list that is nearest to a value. */
function nearest(list, value) {
  let best = 0;
  list.forEach((other, i) => {
    if (Math.abs(other - value) < Math.abs(list[best] - value)) best = i;
  });
  return best;
}

/** Draw into a box now, and again when its width changes. */
function responsive(box, draw) {
  let width = 0;
  new ResizeObserver(() => {
    const now = Math.round(box.clientWidth);
    if (now && now !== width) {
      width = now;
      box.replaceChildren(draw(width));
    }
  }).observe(box);
}

/** The horizontal rules of a line chart with their numbers, and the names of both axes. */
function frame(width, yTicks, y, xName, yName) {
  const { left, right, height, bottom } = FRAME;
  const base = height - bottom;
  const rules = yTicks.flatMap((value) => [
    svg("line", { class: "rule", x1: left, x2: width - right, y1: y(value), y2: y(value) }),
    svg("text", { x: left - 8, y: y(value) + 4, "text-anchor": "end" }, tickLabel(value, yTicks)),
  ]);
  return [
    ...rules,
    svg("line", { class: "axis", x1: left, x2: width - right, y1: base, y2: base }),
    svg("text", { x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" }, xName),
    svg("text", { x: 4, y: 12 }, yName),
  ];
}

/** The curve of series i, with dots where they do not run together. */
function curve(points, i, x, y) {
  const places = points.map(([step, value]) => [x(step).toFixed(1), y(value).toFixed(1)]);
  const line = svg("path", { class: `c${i}`, d: `M${places.map((place) => place.join(" ")).join("L")}` });
  const dotted = places.length <= 40 ? places : [];
  return [line, ...dotted.map(([cx, cy]) => svg("circle", { class: `d${i}`, cx, cy, r: 3 }))];
}

/** A piece of the line of series i, for the legend. */
function sample(i) {
  const line = svg("path", { d: "M0 5H26", class: `c${i}` });
  return svg("svg", { viewBox: "0 0 26 10", "aria-hidden": "true" }, line);
}

/**
 * Curves over a common axis. The pointer and the arrow keys read the values.
 * `series`: name and points [x, y], sorted by x. `digits`: of a value that is read.
 * `zero`: whether the vertical axis begins there.
 */
function lineChart({ title, xName, yName, series, digits, zero = false }) {
  const xs = [...new Set(series.flatMap((line) => line.points.map((point) => point[0])))];
  xs.sort((a, b) => a - b);
  const most = xs[xs.length - 1];
  const values = series.flatMap((line) => line.points.map((point) => point[1]));
  const yTicks = ticks(zero ? 0 : Math.min(...values), Math.max(...values), 5);
  const [lowest, highest] = [yTicks[0], yTicks[yTicks.length - 1]];
  const { left, right, top, bottom, height } = FRAME;
  const y = (value) => height - bottom - (height - bottom - top) * ((value - lowest) / (highest - lowest));
  const names = series.map((line, i) => el("span", {}, sample(i), line.name));
  const legend = el("p", { class: "legend", "aria-live": "polite" }, ...names);
  const words = series.map(({ name, points }) => {
    const [first, last] = [points[0], points[points.length - 1]].map((point) => number(point[1], digits));
    return `${name}: from ${first} to ${last}`;
  });
  let at = null;

  function read() {
    legend.replaceChildren(...series.map((line, i) => {
      const [step, value] = line.points[nearest(line.points.map((point) => point[0]), xs[at])];
      return el("span", {}, sample(i), `${line.name} ${number(value, digits)} at ${number(step)}`);
    }));
  }
  function draw(width) {
    const x = (value) => left + (width - left - right) * (value / most);
    const across = ticks(0, most, Math.max(2, Math.floor(width / 90))).filter((value) => value <= most);
    const labels = across.map((value) => svg("text", {
      x: x(value), y: height - bottom + 17, "text-anchor": value === most ? "end" : "middle",
    }, tickLabel(value, across.length > 1 ? across : [0, 1])));
    const cursor = svg("line", { class: "cursor", y1: top, y2: height - bottom, visibility: "hidden" });
    const drawn = picture(width, height, `${title}. ${words.join(". ")}`,
      ...frame(width, yTicks, y, xName, yName), ...labels,
      ...series.flatMap((line, i) => curve(line.points, i, x, y)), cursor);
    function show() {
      cursor.setAttribute("x1", x(xs[at]));
      cursor.setAttribute("x2", x(xs[at]));
      cursor.setAttribute("visibility", "visible");
      read();
    }
    drawn.setAttribute("tabindex", 0);
    drawn.addEventListener("pointermove", (event) => {
      const inside = event.clientX - drawn.getBoundingClientRect().left - left;
      at = nearest(xs, (inside / (width - left - right)) * most);
      show();
    });
    drawn.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      at = at === null ? (step > 0 ? 0 : xs.length - 1) : Math.max(0, Math.min(xs.length - 1, at + step));
      show();
    });
    drawn.addEventListener("pointerleave", () => {
      cursor.setAttribute("visibility", "hidden");
      legend.replaceChildren(...names);
    });
    return drawn;
  }

  const box = el("div", {});
  responsive(box, draw);
  return el("div", { class: "chart card" }, el("h3", {}, title), legend, box);
}

/** Lying bars, so that any number of them fits a phone. `bars`: label, count of lines, value. */
function barChart({ title, name, unit, bars }) {
  const all = ticks(0, Math.max(1, ...bars.map((bar) => bar.value)), 5);
  const most = all[all.length - 1];
  const [left, right, top, thick, place] = [62, 100, 26, 18, 28];
  const told = bars.map((bar) => `${bar.label}: ${number(bar.value, 1)}, ${plural(bar.lines, "line")}`);

  function draw(width) {
    const height = top + place * bars.length + 42, base = height - 38;
    const x = (value) => left + (width - left - right) * (value / most);
    const rules = (width < 420 ? all.filter((_, i) => i % 2 === 0) : all).flatMap((value) => [
      svg("line", { class: "rule", x1: x(value), x2: x(value), y1: top - 6, y2: base }),
      svg("text", { x: x(value), y: base + 15, "text-anchor": "middle" }, tickLabel(value, all)),
    ]);
    const parts = bars.flatMap((bar, i) => {
      const y = top + place * i, line = y + thick - 4, end = Math.max(left + 1, x(bar.value));
      const count = svg("tspan", { class: "count", dx: 8 }, plural(bar.lines, "line"));
      const kind = bar.lines < FEW ? "bar few" : "bar";
      return [
        svg("text", { x: left - 8, y: line, "text-anchor": "end" }, bar.label),
        svg("rect", { class: kind, x: left, y, width: end - left, height: thick, rx: 3 }),
        svg("text", { class: "value", x: end + 6, y: line }, number(bar.value, 1), count),
      ];
    });
    return picture(width, height, `${title}. ${told.join("; ")}`, ...rules,
      svg("text", { x: 4, y: 12 }, unit),
      svg("text", { x: (left + x(most)) / 2, y: height - 6, "text-anchor": "middle" }, name), ...parts);
  }

  const box = el("div", {});
  responsive(box, draw);
  return el("div", { class: "chart card" }, el("h3", {}, title), box);
}
