// The arena: how much of it is in use when, and where tensors lie in it.

const MEMORY_LEFT = 64;

function memoryFacts() {
  const memory = data.memory;
  const peak = Math.max(0, ...memory.live);
  const used = memory.arena > 0 ? `, of which at most ${bytes(peak)} (${percent(peak / memory.arena)}) are in use at a time` : "";
  const scratch = memory.scratch > 0 ? `Layers need ${bytes(memory.scratch)} more while they run. ` : "";
  byId("memory-facts").textContent =
    `Tensors between layers share an arena of ${bytes(memory.arena)}${used}. ${scratch}The constants of the model have ${bytes(memory.constants)}.`;
}

function memoryAxes(svg, width, height, most) {
  const y = (value) => height - ((height - 14) * value) / most;
  for (const value of [0, ...marks(most, 4)]) {
    svg.append(shape("line", { class: "axis", x1: MEMORY_LEFT, x2: width, y1: y(value), y2: y(value) }));
    svg.append(shape("text", { class: "quiet", x: MEMORY_LEFT - 8, y: y(value) + 4, "text-anchor": "end" }, value === 0 ? "0" : bytes(value)));
  }
  return y;
}

function drawLive() {
  const parent = byId("memory-live");
  const [width, height] = [parent.clientWidth || 1100, 170];
  const svg = drawing(parent, width, height + 24, "Bytes of the arena in use, by layer");
  const { live, arena } = data.memory;
  const y = memoryAxes(svg, width, height, Math.max(arena, 1));
  const step = (width - MEMORY_LEFT) / Math.max(live.length, 1);
  const path = live.map((value, index) => `L${MEMORY_LEFT + index * step},${y(value)}h${step}`).join("");
  svg.append(shape("path", { d: `M${MEMORY_LEFT},${y(0)}${path}V${y(0)}Z`, fill: "var(--kind-0)", "fill-opacity": 0.38 }));
  svg.append(shape("line", { x1: MEMORY_LEFT, x2: width, y1: y(arena), y2: y(arena), stroke: "var(--kind-5)", "stroke-width": 2 }));
  svg.append(shape("text", { x: width, y: y(arena) + 17, "text-anchor": "end" }, `arena ${bytes(arena)}`));
  svg.append(shape("text", { class: "quiet", x: MEMORY_LEFT, y: height + 18 }, "first layer"));
  svg.append(shape("text", { class: "quiet", x: width, y: height + 18, "text-anchor": "end" }, `layer ${live.length}`));
  const over = shape("rect", { x: MEMORY_LEFT, y: 0, width: width - MEMORY_LEFT, height, fill: "transparent" });
  over.addEventListener("mousemove", (event) => {
    const box = svg.getBoundingClientRect();
    const index = Math.floor((event.clientX - box.left - MEMORY_LEFT) / step);
    if (data.layers[index]) showTip(event, `${data.layers[index].name}\n${bytes(live[index])} in use`);
  });
  over.addEventListener("mouseleave", hideTip);
  svg.append(over);
}

function drawMap() {
  const parent = byId("memory-map");
  const [width, height] = [parent.clientWidth || 1100, 230];
  const svg = drawing(parent, width, height + 24, "Where tensors lie in the arena, by layer");
  const { blocks, arena, live } = data.memory;
  const y = memoryAxes(svg, width, height, Math.max(arena, 1));
  const step = (width - MEMORY_LEFT) / Math.max(live.length, 1);
  blocks.forEach(([tensor, offset, size, first, last]) => {
    const top = y(offset + size);
    const block = shape("rect", {
      class: "hot", x: MEMORY_LEFT + first * step, width: Math.max((last - first + 1) * step, 0.8), y: top,
      height: Math.max(y(offset) - top, 0.8), fill: color(data.layers[first].kind), "fill-opacity": 0.75, stroke: "var(--back)", "stroke-width": 0.6,
    });
    const lives = `from ${data.layers[first].name}\nto ${data.layers[last].name}`;
    svg.append(explained(block, () => `${tensor}\n${bytes(size)} at ${bytes(offset)}\n${lives}`));
  });
  svg.append(shape("text", { class: "quiet", x: MEMORY_LEFT, y: height + 18 }, "first layer"));
  svg.append(shape("text", { class: "quiet", x: width, y: height + 18, "text-anchor": "end" }, `layer ${live.length}`));
}
