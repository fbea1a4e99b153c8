// The picture of a walk: agreement with the teacher as curves, answers as ribbons below.

import { agreement, STEPS, stretchesOf } from "./walk.js";

const SVG = "http://www.w3.org/2000/svg";
// Pixels; the slider's ends are at those of the plot (style.css has the same numbers).
const LEFT = 74;
const RIGHT = 14;
const TOP = 12;
const PLOT = 150;
const RIBBON = 26;
const GAP = 8;
const FIRST_RIBBON = TOP + PLOT + 18;

/** Draws a walk into a container of any width; `networks[0]` is the teacher. */
export function drawChart(container, networks, answers, label) {
  const width = container.clientWidth;
  const height = FIRST_RIBBON + networks.length * (RIBBON + GAP);
  const x = (step) => LEFT + ((width - LEFT - RIGHT) * step) / STEPS;
  const svg = node("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img" });
  svg.setAttribute("aria-label", label);
  svg.append(hatch(), ...axis(x));
  networks.slice(1).forEach((network, index) => svg.append(curve(network, index + 1, answers, x)));
  networks.forEach((network, index) => svg.append(ribbon(network, index, answers, x)));
  svg.append(node("line", { class: "cursor", y1: TOP - 6, y2: height - GAP }));
  container.replaceChildren(svg);
  return (step) => {
    for (const end of ["x1", "x2"]) svg.querySelector(".cursor").setAttribute(end, x(step));
  };
}

function node(name, attributes, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text) made.textContent = text;
  return made;
}

/** Stripes for where a student departs. */
function hatch() {
  const pattern = node("pattern", {
    id: "hatch", width: 7, height: 7, patternUnits: "userSpaceOnUse",
    patternTransform: "rotate(45)",
  });
  pattern.append(
    node("rect", { class: "hatch-ground", width: 7, height: 7 }),
    node("rect", { class: "hatch-stripe", width: 2.5, height: 7 }),
  );
  const definitions = node("defs", {});
  definitions.append(pattern);
  return definitions;
}

const height = (part) => TOP + PLOT * (1 - part);

function axis(x) {
  const lines = [0, 0.5, 1].flatMap((part) => {
    const y = height(part);
    return [
      node("line", { class: "grid", x1: x(0), x2: x(STEPS), y1: y, y2: y }),
      node("text", { class: "tick", x: LEFT - 8, y: y + 4 }, `${100 * part} %`),
    ];
  });
  return [...lines, node("text", { class: "tick", x: LEFT - 8, y: height(0.75) + 4 }, "shared")];
}

function curve(network, index, answers, x) {
  const points = answers.map((step, position) => {
    const shared = agreement(step[0], step[index]);
    return `${x(position).toFixed(1)},${height(shared).toFixed(1)}`;
  });
  return node("polyline", { class: `curve ${network.name}`, points: points.join(" ") });
}

/** Answers of a network along the walk, one box for each stretch. */
function ribbon(network, index, answers, x) {
  const top = FIRST_RIBBON + index * (RIBBON + GAP);
  const group = node("g", { class: `ribbon ${network.name}` });
  group.append(node("text", { class: "name", x: LEFT - 8, y: top + 18 }, network.short));
  for (const { answer, departed, start, end } of stretchesOf(answers, index)) {
    const left = x(Math.max(0, start - 0.5));
    const right = x(Math.min(STEPS, end + 0.5));
    const kind = departed ? "stretch departed" : "stretch";
    group.append(
      node("rect", { class: kind, x: left, y: top, width: right - left, height: RIBBON }),
    );
    if (right - left < 16) continue;
    const middle = (left + right) / 2;
    if (departed) {
      group.append(node("circle", { class: "plate", cx: middle, cy: top + 13, r: 9 }));
    }
    group.append(node("text", { class: "answer", x: middle, y: top + 18 }, answer));
  }
  return group;
}
