// What changed from the baseline.

const signed = (ns) => `${ns > 0 ? "+" : ""}${time(ns)}`;

function verdict(change) {
  if (!change.before) return "only here";
  if (!change.after) return "only in the baseline";
  if (!change.significant) return "within noise";
  return change.difference > 0 ? "slower" : "faster";
}

function changeRow(change) {
  const word = verdict(change);
  const timing = (value) => (value ? `${time(value[0])} ± ${time(value[1])}` : "–");
  const style = change.significant ? (change.difference > 0 ? "slower" : "faster") : "";
  const kernels = change.kernels[0] === change.kernels[1] ? change.kernels[1] : `${change.kernels[0] || "–"} → ${change.kernels[1] || "–"}`;
  return element("tr", change.significant ? {} : { class: "within" },
    element("td", { class: "name" }, ...breakable(change.name)),
    element("td", { class: "number" }, timing(change.before)),
    element("td", { class: "number" }, timing(change.after)),
    element("td", { class: `number ${style}` }, signed(change.difference)),
    element("td", { class: "number" }, `± ${time(change.noise)}`),
    element("td", { class: "number" }, change.ratio === null ? "" : `${change.ratio.toFixed(2)}×`),
    element("td", { class: "word" }, word),
    element("td", { class: "long" }, kernels));
}

function changes(title, list) {
  const titles = [title, "baseline", "now", "difference", "noise", "ratio", "", "kernel"];
  const head = titles.map((text, index) => element("th", { scope: "col", ...(index > 0 && index < 6 ? { class: "number" } : {}) }, text));
  return element("table", {}, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...list.map(changeRow)));
}

function drawComparison() {
  const comparison = data.comparison;
  if (!comparison) return;
  byId("comparison").hidden = false;
  const { total } = comparison;
  const count = comparison.layers.filter((change) => change.significant).length;
  const facts = [
    `${comparison.baseline}: ${time(total.before[0])} ± ${time(total.before[1])}; now ${time(total.after[0])} ± ${time(total.after[1])}, ` +
      `${total.ratio.toFixed(3)} times as long: ${verdict(total)}. ${count} of ${comparison.layers.length} layers changed by more than the noise.`,
    ...comparison.remarks.map((remark) => `Mind that ${remark}.`),
  ];
  byId("comparison-facts").textContent = facts.join(" ");
  byId("comparison-layers").replaceChildren(
    changes("operator", [{ ...total, name: "inference" }, ...comparison.operators]),
    changes("layer", comparison.layers));
}
