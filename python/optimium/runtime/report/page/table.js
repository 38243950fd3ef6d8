// The table of layers.

const COLUMNS = [
  { title: "#", key: "index", number: true, text: (layer) => String(layer.index + 1) },
  { title: "layer", key: "name", class: "name" },
  { title: "operator", key: "kind", class: "word" },
  { title: "time", key: "time", number: true, text: (layer) => time(layer.time) },
  { title: "±", key: "spread", number: true, text: (layer) => time(layer.spread) },
  { title: "share", key: "share", number: true, text: (layer) => percent(layer.share) },
  { title: "GFLOP/s", key: "rate", number: true, text: (layer) => (layer.rate ? rate(layer.rate) : "") },
  { title: "of limit", key: "fraction", number: true, text: (layer) => (layer.fraction === null ? "" : percent(layer.fraction)) },
  { title: "bytes", key: "bytes", number: true, text: (layer) => bytes(layer.bytes) },
  { title: "result", key: "shape" },
  { title: "kernel", key: "kernel", class: "long" },
];
const sorting = { key: "time", descending: true };

function compareLayers(a, b) {
  const [x, y] = [a[sorting.key] ?? -Infinity, b[sorting.key] ?? -Infinity];
  const order = typeof x === "string" ? x.localeCompare(y, undefined, { numeric: true }) : x - y;
  return (sorting.descending ? -order : order) || a.index - b.index;
}

function drawTable() {
  const wanted = byId("search").value.trim().toLowerCase();
  const contains = (layer) => `${layer.name} ${layer.kind} ${layer.kernel}`.toLowerCase().includes(wanted);
  const shown = timedLayers.filter(contains).sort(compareLayers);
  const sum = (key) => shown.reduce((total, layer) => total + layer[key], 0);
  const body = element("tbody", {}, ...shown.map(tableRow));
  const totals = { name: `${shown.length} layers`, time: time(sum("time")), share: percent(sum("share")), bytes: bytes(sum("bytes")) };
  const cells = COLUMNS.map((column) => element("td", column.number ? { class: "number" } : {}, totals[column.key] ?? ""));
  const table = element("table", {}, element("thead", {}, tableHead()), body, element("tfoot", {}, element("tr", {}, ...cells)));
  byId("table").replaceChildren(table);
  byId("found").textContent = wanted ? `${shown.length} of ${timedLayers.length}` : `${timedLayers.length} layers take time`;
}

function tableHead() {
  return element("tr", {}, ...COLUMNS.map((column) => {
    const button = element("button", { type: "button" }, column.title);
    button.addEventListener("click", () => {
      sorting.descending = sorting.key === column.key ? !sorting.descending : Boolean(column.number) && column.key !== "index";
      sorting.key = column.key;
      drawTable();
    });
    const direction = sorting.descending ? "descending" : "ascending";
    return element("th", { scope: "col", ...(column.number ? { class: "number" } : {}), ...(sorting.key === column.key ? { "aria-sort": direction } : {}) }, button);
  }));
}

function tableRow(layer) {
  return element("tr", {}, ...COLUMNS.map((column) => {
    const cell = element("td", { class: column.class ?? (column.number ? "number" : "") });
    if (column.key === "kind") cell.append(element("span", { class: "chip", style: `--color: ${color(layer.kind)}` }));
    cell.append(...(column.text ? [column.text(layer)] : breakable(layer[column.key])));
    return cell;
  }));
}

function search(text) {
  byId("search").value = text;
  drawTable();
  byId("search").scrollIntoView({ block: "start" });
}
