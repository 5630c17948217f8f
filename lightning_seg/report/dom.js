// The data, what of it is shown, and how it is written. Text reaches the page as text nodes only, never as markup.
const DATA = JSON.parse(document.getElementById("data").textContent);
const state = { visible: new Set(DATA.groups.keys()), colorBy: "", reference: 0 };
const redrawn = [];
const redraw = () => redrawn.forEach((draw) => draw());

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child != null));
  return node;
}
const el = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

function select(label, options, chosen, changed) {
  const items = options.map(([value, text]) => el("option", { value, selected: value === chosen }, text));
  return el("label", {}, label, el("select", { "aria-label": label, onchange: (event) => changed(event.target.value) }, items));
}

function section(id, title, note, ...content) {
  document.querySelector("nav").append(el("a", { href: `#${id}` }, title));
  const notes = note ? [el("p", { class: "note" }, note)] : [];
  document.querySelector("main").append(el("section", { id, "aria-labelledby": `${id}-title` },
    el("h2", { id: `${id}-title` }, title), notes, content));
}

const percent = (value, digits = 2) => (value == null ? "–" : (100 * value).toFixed(digits));
const signed = (value) => (value > 0 ? "+" : value < 0 ? "−" : "±") + Math.abs(100 * value).toFixed(2);
const short = (value, digits = 3) => (value == null ? "–" : String(Number(value.toPrecision(digits))));
// The score that configurations are ranked and compared by.
const MAIN = { ...DATA.scores[0], label: DATA.scores[0].title.replace(", %", "") };
const mainText = (value, digits = 2) => (MAIN.share ? percent(value, digits) : short(value, digits + 2));
const mainUnit = MAIN.share ? " %" : "";
const scaled = (value, units) => {
  if (value == null) return "–";
  const unit = units.find(([size]) => value >= size) ?? units.at(-1);
  return `${short(value / unit[0])} ${unit[1]}`.trim();
};
const bytes = (value) => scaled(value, [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"]]);
const many = (value) => scaled(value, [[1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""]]);
const seconds = (value) => scaled(value, [[1, "s"], [1e-3, "ms"]]);
const USAGE = {
  seconds_per_step: ["Time per step", seconds],
  peak_memory_bytes: ["Peak memory", bytes],
  parameters: ["Parameters", many],
};

// A color for each configuration, or each value of a parameter; beyond eight the dashes change.
const DASHES = ["", "7 4", "2 3", "10 3 2 3"];
const byNumber = (a, b) => (Number.isFinite(Number(a)) && Number.isFinite(Number(b)) ? a - b : String(a).localeCompare(String(b), "en", { numeric: true }));
const valuesOf = (parameter) => [...new Set(parameter.values)].sort((a, b) => (a == null) - (b == null) || byNumber(a, b));
const colorParameter = () => DATA.parameters.find((parameter) => parameter.key === state.colorBy);
function look(group) {
  const parameter = colorParameter();
  const index = parameter ? valuesOf(parameter).indexOf(parameter.values[group]) : group;
  return { stroke: `var(--c${index % 8})`, dash: DASHES[Math.floor(index / 8) % DASHES.length] };
}
function mark(group) {
  const { stroke, dash } = look(group);
  return svg("svg", { class: "mark", width: 26, height: 12, "aria-hidden": "true" },
    svg("line", { x1: 0, x2: 26, y1: 6, y2: 6, "stroke-width": 4, style: `stroke: ${stroke}`, "stroke-dasharray": dash }));
}
const shown = () => [...DATA.groups.keys()].filter((group) => state.visible.has(group));
function emphasize(group) {
  for (const node of document.querySelectorAll("svg [data-group]")) {
    node.classList.toggle("faded", group != null && Number(node.dataset.group) !== group);
  }
}

function tip(event, text) {
  const box = document.getElementById("tip");
  box.hidden = !text;
  if (!text) return;
  box.textContent = text;
  box.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - box.offsetWidth - 8))}px`;
  box.style.top = `${Math.max(4, Math.min(event.clientY + 14, innerHeight - box.offsetHeight - 8))}px`;
}
