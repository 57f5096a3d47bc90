"use strict";

/** What this page shows. It is text from anywhere, so that it only ever becomes text nodes. */
const data = JSON.parse(document.getElementById("data").textContent);

/**
 * An element. Attributes that are true stand without a value, those that are false or null are left out,
 * functions named on… listen. Children are elements or text; null is left out.
 */
function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(key.slice(2), value);
    else if (value !== false && value != null) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child != null));
  return node;
}

/** A sentence, in its own direction. */
function sentence(text, name = "span") {
  return el(name, { dir: "auto", class: "text" }, text);
}

/** 1234.5 → "1,234.5"; of what was not measured a dash. */
function number(value, digits = 0) {
  if (value === null || value === undefined) return "–";
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

function plural(count, noun) {
  return `${number(count)} ${noun}${count === 1 ? "" : "s"}`;
}
