// The head of the page, and everything drawn.

function drawHead() {
  byId("model").textContent = data.title;
  const inputs = Object.entries(data.shapes).map(([name, dims]) => `${name} ${dims.join("×") || "scalar"}`);
  const few = 8;
  if (inputs.length > few) inputs.splice(few, inputs.length - few, `${inputs.length - few} more`);
  byId("facts").textContent = [data.model === data.title ? "" : data.model, inputs.join(", ")].filter(Boolean).join(" · ");
  const operations = timedLayers.reduce((sum, layer) => sum + (layer.rate ? (layer.rate * layer.time) / 1e9 : 0), 0);
  const views = data.layers.length - timedLayers.length;
  const limit = timedLayers.reduce((sum, layer) => sum + layer.limit, 0);
  const figures = [
    ["an inference", time(data.median), `± ${time(data.spread)}`],
    ["inferences a second", digits(data.per_second), ""],
    ["threads", String(data.threads), data.precision],
    ["layers", String(timedLayers.length), views === 0 ? "" : views === 1 ? "+ 1 view" : `+ ${views} views`],
    ["operations", `${digits(operations / 1e9)} GFLOP`, `${rate(operations * data.per_second)} GFLOP/s`],
    ["of the machine's limit", percent(limit / data.median), ""],
  ];
  byId("figures").replaceChildren(...figures.map(([name, value, more]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, value, more ? " " : "", more ? element("small", {}, more) : ""))));
  if (data.lost > 0) {
    byId("remarks").hidden = false;
    byId("remarks").textContent = `${data.lost} events found no room in the event buffer: what they were about is missing here.`;
  }
  const machine = data.machine;
  byId("conditions").textContent =
    `Medians of ${data.inferences} inferences, ± half the distance between the quartiles. ${machine.cpu}, ${machine.instruction_set}; ` +
    `a core reaches ${rate(machine.f32)} GFLOP/s in f32, ${rate(machine.int8)} GOP/s in int8, and reads ` +
    `${rate(machine.l2)} GB/s from the second cache, ${rate(machine.l3)} from the third, ${rate(machine.memory)} from memory. ` +
    `Optimium runtime ${data.version}, ${data.date}.`;
}

function drawPictures() {
  drawOperators();
  drawLayers();
  drawTimeline();
  drawLive();
  drawMap();
}

legends();
drawHead();
drawComparison();
prepareTimeline();
memoryFacts();
drawPictures();
drawTable();
byId("search").addEventListener("input", drawTable);
let width = document.documentElement.clientWidth;
addEventListener("resize", () => {
  if (document.documentElement.clientWidth !== width) drawPictures();
  width = document.documentElement.clientWidth;
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawTimeline);
