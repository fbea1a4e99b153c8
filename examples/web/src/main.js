// The page: a drawing and its answers, and a walk from one drawing to another.

import { makeAnswers } from "./answers.js";
import { drawChart } from "./chart.js";
import { levelsOfStrokes, pixelsOfLevels } from "./digit.js";
import { askAll, loadNetworks } from "./networks.js";
import { Pad } from "./pad.js";
import { showPixels } from "./pixels.js";
import { element, percent } from "./texts.js";
import { agreement, askAlong, departedPart, departs, imageAt, topClass } from "./walk.js";

const SHORT = { teacher: "Teacher", kd: "KD", l2rkd: "L2RKD" };
// Digits of the examples that the first walk goes between.
const FIRST_WALK = [4, 9];
const BLANK = new Array(64).fill(0);
const part = (id) => document.getElementById(id);

/** Runs `work` whenever it is asked for, one run at a time, the last one with what is newest. */
function oneAtATime(work) {
  let [running, again] = [false, false];
  return async () => {
    again = true;
    if (running) return;
    running = true;
    while (again) {
      again = false;
      await work();
    }
    running = false;
  };
}

function makeDrawing(description) {
  const { models: networks, class_names: classNames, examples } = description;
  const showAnswers = makeAnswers(part("answers"), networks, classNames);
  const drawing = { levels: BLANK };
  const answer = oneAtATime(async () => {
    const { levels } = drawing;
    const pixels = pixelsOfLevels(levels);
    const empty = levels.every((level) => level === 0);
    const answers = empty ? null : await askAll(networks, pixels);
    showPixels(part("seen"), pixels, empty ? "nothing drawn yet" : "the drawing in 8 by 8 pixels");
    showAnswers(answers);
    part("seen").dataset.levels = levels;
    part("spoken").textContent = empty ? "" : spoken(networks, answers);
    for (const id of ["keep-start", "keep-end"]) part(id).disabled = empty;
  });
  const pad = new Pad(part("pad"), () => {
    drawing.levels = pad.strokes.length > 0 ? levelsOfStrokes(pad.strokes) : BLANK;
    answer();
  });
  drawing.show = (example) => {
    drawing.levels = example.levels;
    pad.showExample(pixelsOfLevels(example.levels));
    answer();
  };
  part("undo").addEventListener("click", () => pad.undo());
  part("clear").addEventListener("click", () => pad.clear());
  makeExamples(examples, classNames, drawing.show, pad);
  return drawing;
}

/** Buttons, and keys of the drawing area, that show the next example of a digit. */
function makeExamples(examples, classNames, show, pad) {
  const buttons = classNames.map((name, label) => {
    const own = examples.filter((example) => example.label === label);
    const picture = element("canvas", { class: "pixels", "aria-hidden": "true" });
    const title = `Example of ${name}; again for another one`;
    const button = element("button", { type: "button", "aria-label": title, title }, picture);
    let next = 0;
    const display = () =>
      showPixels(picture, pixelsOfLevels(own[next].levels), `an example of ${name}`);
    display();
    button.addEventListener("click", () => {
      show(own[next]);
      next = (next + 1) % own.length;
      display();
    });
    return button;
  });
  part("examples").append(...buttons);
  part("pad").addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (["Delete", "Backspace"].includes(event.key)) pad.clear();
    else if (classNames.includes(event.key)) buttons[classNames.indexOf(event.key)].click();
    else return;
    event.preventDefault();
  });
}

function makeWalk(networks, examples, drawing) {
  const first = (digit) => examples.find((example) => example.label === digit).levels;
  const walk = { start: first(FIRST_WALK[0]), end: first(FIRST_WALK[1]), answers: [] };
  const ends = () => [pixelsOfLevels(walk.start), pixelsOfLevels(walk.end)];
  let moveCursor = () => {};
  const move = () => {
    const step = Number(part("slider").value);
    moveCursor(step);
    showPlace(networks, walk.answers[step], imageAt(...ends(), step), step);
  };
  const draw = () => {
    const summary = summaryOf(networks, walk.answers);
    moveCursor = drawChart(part("chart"), networks, walk.answers, summary);
    part("summary").textContent = summary;
    move();
  };
  const ask = oneAtATime(async () => {
    const [start, end] = ends();
    walk.answers = await askAlong(networks, start, end);
    showPixels(part("start"), start, "the start of the walk");
    showPixels(part("end"), end, "the end of the walk");
    draw();
  });
  for (const side of ["start", "end"]) {
    part(`keep-${side}`).addEventListener("click", () => {
      walk[side] = drawing.levels;
      ask();
    });
  }
  part("slider").addEventListener("input", move);
  new ResizeObserver(() => walk.answers.length > 0 && draw()).observe(part("chart"));
  return ask();
}

function showPlace(networks, answers, pixels, step) {
  showPixels(part("here"), pixels, `the image after ${step} per cent of the way`);
  part("here-label").textContent = `${step} % of the way`;
  const items = networks.map((network, index) => {
    const digit = topClass(answers[index]);
    const says = element("strong", {}, String(digit));
    const sure = element("span", { class: "sure" }, `${percent(answers[index][digit])} %`);
    const departed = departs(answers, index);
    const shared = percent(agreement(answers[0], answers[index]));
    const note = index === 0 ? "" : `${departed ? "departed, " : ""}shares ${shared} %`;
    const name = element("span", { class: "name" }, network.title);
    const kind = `${network.name}${departed ? " departed" : ""}`;
    return element("li", { class: kind, "data-model": network.name }, name, " ", says, " ", sure, " ", note);
  });
  part("places").replaceChildren(...items);
  part("slider").setAttribute("aria-valuetext", `${step} per cent: ${spoken(networks, answers)}`);
}

/** The answers for those who hear the page. */
function spoken(networks, answers) {
  return networks
    .map((network, index) => `${network.title} ${topClass(answers[index])}`)
    .join(", ");
}

function summaryOf(networks, answers) {
  const [kd, l2rkd] = [1, 2].map((index) => Math.round(100 * departedPart(answers, index)));
  return (
    `The ${networks[1].title} departs from the teacher on ${kd} % of this walk, ` +
    `the ${networks[2].title} on ${l2rkd} %.`
  );
}

function introduce({ models: networks, test_images, steps, seed }) {
  const [teacher, ...students] = networks;
  part("introduction").textContent =
    `Three networks answer, here in your browser: a teacher of ${teacher.training_images} digits, ` +
    `and two small students of it that know ${students[0].training_images} of them. The KD student ` +
    "copied the teacher's answers to these; the L2RKD student also its answers in regions around them.";
  const rows = networks.map(
    (network) =>
      `${network.title} ${percent(network.test_accuracy)} % ` +
      `(${network.parameters.toLocaleString("en")} parameters)`,
  );
  part("honesty").textContent =
    `Right on the ${test_images} test digits, after the last step of this very training: ` +
    `${rows.join(", ")}. Each student took ${steps} steps, from the same weights and images; seed ` +
    `${seed}. Your drawings are none of these digits, and one walk proves nothing: try others.`;
}

async function start() {
  const description = await loadNetworks();
  for (const network of description.models) network.short = SHORT[network.name];
  introduce(description);
  const drawing = makeDrawing(description);
  drawing.show(description.examples.find((example) => example.label === FIRST_WALK[0]));
  await makeWalk(description.models, description.examples, drawing);
  document.documentElement.dataset.ready = "";
}

start().catch((error) => {
  part("introduction").setAttribute("role", "alert");
  part("introduction").textContent = `The models could not be loaded. ${error.message}`;
  throw error;
});
