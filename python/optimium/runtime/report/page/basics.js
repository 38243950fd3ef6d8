// What all parts of the page use: the data, elements, numbers for people, colours, and the note at the pointer.

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function shape(tag, attributes = {}, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

/** A drawing of that size, in place of what is in `parent`. */
function drawing(parent, width, height, label) {
  const made = shape("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label });
  parent.replaceChildren(made);
  return made;
}

const digits = (value) => (value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2));

/** A number with the largest of `units` that it has one of: each is a thousand (or `base`) of the one before. */
function withUnit(value, units, base = 1000) {
  let size = Math.abs(value);
  let index = 0;
  while (size >= base * 0.9995 && index < units.length - 1) {
    size /= base;
    index += 1;
  }
  const text = index === 0 && Number.isInteger(size) ? String(size) : digits(size);
  return `${value < 0 ? "−" : ""}${text} ${units[index]}`;
}
const time = (ns) => withUnit(ns, ["ns", "µs", "ms", "s"]);
const bytes = (count) => withUnit(count, ["B", "kB", "MB", "GB"]);
const rate = (perSecond) => (perSecond / 1e9 >= 0.01 ? digits(perSecond / 1e9) : (perSecond / 1e9).toPrecision(1));
const percent = (part) => {
  const hundredths = part * 100;
  return `${hundredths < 0 ? "−" : ""}${Math.abs(hundredths) >= 9.95 ? Math.abs(hundredths).toFixed(0) : Math.abs(hundredths).toFixed(1)} %`;
};

/** Round distances for about `count` marks up to `most`. */
function marks(most, count) {
  if (!(most > 0)) return [];
  const rough = most / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough);
  const found = [];
  for (let value = step; value <= most * 1.0001; value += step) found.push(value);
  return found;
}

/** The end of a name says more than its beginning. */
const shortened = (name, length) => (name.length <= length ? name : `…${name.slice(name.length - length + 1)}`);

const COLORED = 6;
const places = new Map(data.kinds.map((kind, place) => [kind.name, place]));
function color(kind) {
  const place = places.get(kind);
  return place !== undefined && place < COLORED ? `var(--kind-${place})` : "var(--kind-other)";
}
const variable = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);

/** A name that may be broken where paths are. */
const breakable = (name) => name.split("/").flatMap((part, index) => (index === 0 ? [part] : ["/", element("wbr"), part]));

function legends() {
  const shown = data.kinds.slice(0, COLORED).map((kind) => [kind.name, color(kind.name)]);
  if (data.kinds.length > COLORED) shown.push(["others", "var(--kind-other)"]);
  for (const list of document.querySelectorAll(".legend")) {
    list.replaceChildren(...shown.map(([name, fill]) => element("li", { style: `--color: ${fill}` }, name)));
  }
}

const tip = byId("tip");
function showTip(event, text) {
  tip.textContent = text;
  tip.hidden = false;
  const x = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
  const below = event.clientY + 16;
  const y = below + tip.offsetHeight > innerHeight ? event.clientY - tip.offsetHeight - 12 : below;
  tip.style.left = `${Math.max(4, x)}px`;
  tip.style.top = `${Math.max(4, y)}px`;
}
const hideTip = () => { tip.hidden = true; };

/** Shows what `text` gives while the pointer is over `target`. */
function explained(target, text) {
  target.addEventListener("mousemove", (event) => showTip(event, text()));
  target.addEventListener("mouseleave", hideTip);
  return target;
}

function layerText(layer) {
  const lines = [layer.name, `${layer.operator} → ${layer.shape || "scalar"}`, `${time(layer.time)} ± ${time(layer.spread)}, ${percent(layer.share)}`];
  if (layer.rate) lines.push(`${rate(layer.rate)} GFLOP/s`);
  if (layer.fraction !== null) lines.push(`${percent(layer.fraction)} of the machine's limit`);
  lines.push(`${bytes(layer.bytes)} read and written`, layer.kernel);
  return lines.join("\n");
}
