// What each thread did in one inference, on a canvas: there may be very many spans.

const timeline = { tracks: [], start: 0, end: 1, from: 0, to: 1, dragged: null };
const ROW = 30;
const TRACK_NAMES = 84;

function prepareTimeline() {
  const tracks = new Map();
  const others = ["QUEUE", "WAIT", "COPY", "LAUNCH", "DEVICE_EXECUTE"];
  for (const [activity, start, end, what, thread] of data.timeline) {
    if (activity === "MODEL_EXECUTE") {
      [timeline.start, timeline.end] = [start, end];
      continue;
    }
    const isLayer = activity === "LAYER_EXECUTE";
    const place = isLayer ? thread : 1e6 + others.indexOf(activity);
    const name = isLayer ? `thread ${thread}` : activity.toLowerCase().replace("_", " ");
    if (!tracks.has(place)) tracks.set(place, []);
    laneFor(tracks.get(place), name, start).spans.push({ start, end, layer: isLayer || activity === "WAIT" ? data.layers[what] : null, activity, what });
  }
  timeline.tracks = [...tracks.entries()].sort(([a], [b]) => a - b).flatMap(([, lanes]) => lanes);
  [timeline.from, timeline.to] = [timeline.start, timeline.end];
}

/** The first lane that is free at `start`: what overlaps lies side by side. */
function laneFor(lanes, name, start) {
  const free = lanes.find((lane) => lane.spans.at(-1).end <= start);
  if (free) return free;
  lanes.push({ name: lanes.length === 0 ? name : "", spans: [] });
  return lanes.at(-1);
}

function drawTimeline() {
  const parent = byId("timeline");
  const width = parent.clientWidth || 1100;
  const height = timeline.tracks.length * ROW + 24;
  let canvas = parent.querySelector("canvas");
  if (!canvas) {
    canvas = element("canvas", { role: "img", "aria-label": "What each thread did in one inference" });
    parent.replaceChildren(canvas);
    listen(canvas);
  }
  fills.clear();
  const dense = devicePixelRatio || 1;
  canvas.width = width * dense;
  canvas.height = height * dense;
  canvas.style.height = `${height}px`;
  const pen = canvas.getContext("2d");
  pen.scale(dense, dense);
  pen.font = '12px system-ui, "Segoe UI", sans-serif';
  const x = (moment) => TRACK_NAMES + ((width - TRACK_NAMES) * (moment - timeline.from)) / (timeline.to - timeline.from);
  axis(pen, x, width, height);
  timeline.tracks.forEach((track, index) => drawTrack(pen, track, index * ROW, x, width));
  if (timeline.dragged) {
    pen.fillStyle = variable("--accent");
    pen.globalAlpha = 0.2;
    pen.fillRect(timeline.dragged[0], 0, timeline.dragged[1] - timeline.dragged[0], height - 24);
    pen.globalAlpha = 1;
  }
}

function axis(pen, x, width, height) {
  pen.textAlign = "center";
  const offset = timeline.from - timeline.start;
  const range = timeline.to - timeline.from;
  for (const mark of marks(offset + range, Math.max(2, Math.round(((width / 150) * (offset + range)) / range)))) {
    if (mark < offset) continue;
    const at = x(timeline.start + mark);
    pen.fillStyle = variable("--line");
    pen.fillRect(at, 0, 1, height - 20);
    pen.fillStyle = variable("--quiet");
    if (at < width - 24) pen.fillText(time(mark), at, height - 6);
  }
}

/** The colour of a kind as numbers, and what can be read on it. Both are looked up once for each drawing. */
const fills = new Map();
function fillOf(kind) {
  if (!fills.has(kind)) {
    const value = variable(color(kind).slice(4, -1)).trim();
    const [red, green, blue] = [1, 3, 5].map((at) => (parseInt(value.slice(at, at + 2), 16) / 255) ** 2.2);
    const light = 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    fills.set(kind, { color: value, text: light > 0.2 ? "#101418" : "#ffffff" });
  }
  return fills.get(kind);
}

function drawTrack(pen, track, y, x, width) {
  for (const span of track.spans) {
    const [left, right] = [Math.max(x(span.start), TRACK_NAMES), Math.min(x(span.end), width)];
    if (right < TRACK_NAMES || left > width) continue;
    const fill = fillOf(span.layer ? span.layer.kind : "");
    pen.fillStyle = fill.color;
    const gap = right - left > 3 ? 0.5 : 0;
    pen.fillRect(left, y + 4, Math.max(right - left - gap, 0.5), ROW - 8);
    const label = span.layer ? span.layer.name : String(span.what ?? span.activity);
    if (right - left > 46) {
      pen.fillStyle = fill.text;
      pen.textAlign = "left";
      pen.fillText(shortened(label, Math.floor((right - left - 8) / 6.6)), left + 4, y + ROW / 2 + 4);
    }
  }
  pen.fillStyle = variable("--text");
  pen.textAlign = "right";
  pen.fillText(track.name, TRACK_NAMES - 10, y + ROW / 2 + 4);
}

function spanAt(canvas, event) {
  const box = canvas.getBoundingClientRect();
  const track = timeline.tracks[Math.floor((event.clientY - box.top) / ROW)];
  const moment = momentAt(box, event.clientX - box.left);
  return track && track.spans.find((span) => span.start <= moment && moment <= span.end);
}

function momentAt(box, x) {
  return timeline.from + ((timeline.to - timeline.from) * (x - TRACK_NAMES)) / (box.width - TRACK_NAMES);
}

function show(from, to) {
  [timeline.from, timeline.to] = [Math.max(from, timeline.start), Math.min(to, timeline.end)];
  byId("timeline-all").hidden = timeline.from === timeline.start && timeline.to === timeline.end;
  drawTimeline();
}

function listen(canvas) {
  canvas.addEventListener("mousedown", (event) => {
    const x = event.clientX - canvas.getBoundingClientRect().left;
    if (x > TRACK_NAMES) timeline.dragged = [x, x];
    event.preventDefault();
  });
  addEventListener("mousemove", (event) => {
    if (!timeline.dragged) return;
    timeline.dragged[1] = Math.max(TRACK_NAMES, event.clientX - canvas.getBoundingClientRect().left);
    drawTimeline();
  });
  addEventListener("mouseup", () => {
    if (!timeline.dragged) return;
    const [from, to] = timeline.dragged.sort((a, b) => a - b);
    const box = canvas.getBoundingClientRect();
    timeline.dragged = null;
    if (to - from > 4) show(momentAt(box, from), momentAt(box, to));
    else drawTimeline();
  });
  canvas.addEventListener("mousemove", (event) => {
    const span = spanAt(canvas, event);
    if (!span) return hideTip();
    const about = span.layer ? layerText(span.layer) : `${span.activity} ${span.what ?? ""}`;
    return showTip(event, `${time(span.end - span.start)} from ${time(span.start - timeline.start)} on\n${about}`);
  });
  canvas.addEventListener("mouseleave", hideTip);
  byId("timeline-all").addEventListener("click", () => show(timeline.start, timeline.end));
}
