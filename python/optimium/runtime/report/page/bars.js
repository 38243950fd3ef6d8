// Time by operator and by layer.

/** Rows with a name, a bar and a figure each. A bar's solid part is its limit, where it has one. */
function rows(parent, items, label) {
  const width = parent.clientWidth || 1100;
  const narrow = width < 700;
  const names = Math.min(narrow ? 180 : 330, 24 + 7.4 * Math.max(...items.map((item) => item.label.length), 4));
  const figures = narrow ? 90 : 190;
  const height = 26;
  const most = Math.max(...items.map((item) => item.time), 1);
  const svg = drawing(parent, width, items.length * height + 4, label);
  items.forEach((item, index) => {
    const y = index * height;
    const length = (value) => Math.max(1, ((width - names - figures) * Math.max(0, value)) / most);
    const group = explained(shape("g", { class: "hot" }), item.text);
    group.append(shape("rect", { x: 0, y, width, height, fill: "transparent" }));
    group.append(shape("text", { x: names - 10, y: y + 17, "text-anchor": "end" }, shortened(item.label, Math.floor((names - 16) / 7.2))));
    group.append(shape("rect", { x: names, y: y + 5, width: length(item.time), height: 16, rx: 2, fill: item.color, "fill-opacity": 0.38 }));
    if (item.limit) {
      group.append(shape("rect", { x: names, y: y + 5, width: length(Math.min(item.limit, item.time)), height: 16, rx: 2, fill: item.color }));
    }
    const figure = narrow ? time(item.time) : `${time(item.time)} · ${percent(item.share)}`;
    group.append(shape("text", { x: names + length(item.time) + 8, y: y + 17 }, figure));
    if (item.open) group.addEventListener("click", item.open);
    svg.append(group);
  });
}

function drawOperators() {
  const most = 14;
  const kinds = data.kinds.slice(0, data.kinds.length > most ? most - 1 : most);
  const rest = data.kinds.slice(kinds.length);
  const item = (name, count, sum, share, limit, fill) => ({
    label: count === null ? name : `${name} (${count})`, time: sum, share, limit, color: fill,
    text: () => `${name}\n${time(sum)}, ${percent(share)} of an inference${count === null ? "" : `\n${count} layer${count === 1 ? "" : "s"}`}${limit ? `\n${percent(limit / sum)} of the machine's limit` : ""}`,
  });
  const items = kinds.map((kind) => item(kind.name, kind.count, kind.time, kind.share, kind.limit, color(kind.name)));
  if (rest.length > 0) {
    const sum = (key) => rest.reduce((total, kind) => total + kind[key], 0);
    items.push(item(`${rest.length} others`, sum("count"), sum("time"), sum("share"), sum("limit"), "var(--kind-other)"));
  }
  items.push(item("between layers", null, data.between, data.between / data.median, 0, "var(--kind-other)"));
  rows(byId("operators"), items, "Time by kind of operator");
}

const timedLayers = data.layers.filter((layer) => layer.timed);

function drawLayers() {
  const parent = byId("layers");
  const few = 40;
  if (timedLayers.length <= few) {
    const items = timedLayers.map((layer) => ({
      label: layer.name, time: layer.time, share: layer.share, limit: layer.limit, color: color(layer.kind),
      text: () => layerText(layer), open: () => search(layer.name),
    }));
    return rows(parent, items, "Time by layer");
  }
  return columns(parent);
}

/** A column for each layer, for models of many. */
function columns(parent) {
  const [width, height, left, bottom] = [parent.clientWidth || 1100, 260, 64, 26];
  const svg = drawing(parent, width, height + bottom, "Time by layer");
  const most = Math.max(...timedLayers.map((layer) => layer.time), 1);
  const step = (width - left) / timedLayers.length;
  const y = (value) => height - ((height - 12) * value) / most;
  for (const value of [0, ...marks(most, 4)]) {
    svg.append(shape("line", { class: "axis", x1: left, x2: width, y1: y(value), y2: y(value) }));
    svg.append(shape("text", { class: "quiet", x: left - 8, y: y(value) + 4, "text-anchor": "end" }, value === 0 ? "0" : time(value)));
  }
  timedLayers.forEach((layer, index) => {
    const x = left + index * step;
    const thick = Math.max(0.6, step - (step > 4 ? 1 : 0));
    const group = explained(shape("g", { class: "hot" }), () => layerText(layer));
    const fill = color(layer.kind);
    const column = (value, opacity) => shape("rect", { x, width: thick, y: y(value), height: height - y(value), fill, "fill-opacity": opacity });
    group.append(shape("rect", { x, y: 0, width: step, height, fill: "transparent" }));
    group.append(column(layer.time, 0.38), column(Math.min(layer.limit, layer.time), 1));
    group.addEventListener("click", () => search(layer.name));
    svg.append(group);
  });
  svg.append(shape("text", { class: "quiet", x: left, y: height + 18 }, "first layer"));
  svg.append(shape("text", { class: "quiet", x: width, y: height + 18, "text-anchor": "end" }, `layer ${timedLayers.length}`));
}
