// The straight line from one image to another, and where students depart from the teacher on it.

import { askAll } from "./networks.js";

export const STEPS = 100;

/** The image after `step` of `STEPS` steps from `start` to `end`. */
export function imageAt(start, end, step) {
  const part = step / STEPS;
  return start.map((pixel, index) => (1 - part) * pixel + part * end[index]);
}

/** What the networks say at each step: an array over steps of arrays over networks. */
export async function askAlong(networks, start, end) {
  const answers = [];
  for (let step = 0; step <= STEPS; step++) {
    answers.push(await askAll(networks, imageAt(start, end, step)));
  }
  return answers;
}

/** The class with the largest probability. */
export function topClass(probabilities) {
  return probabilities.indexOf(Math.max(...probabilities));
}

/** The probability that two distributions share: 1 where they are the same. */
export function agreement(one, other) {
  return one.reduce((sum, probability, index) => sum + Math.min(probability, other[index]), 0);
}

/** Part of the steps at which network `index` gives another answer than network 0. */
export function departedPart(answers, index) {
  return answers.filter((step) => departs(step, index)).length / answers.length;
}

/** Whether network `index` gives another answer than network 0, the teacher. */
export function departs(step, index) {
  return topClass(step[index]) !== topClass(step[0]);
}

/** Runs of steps at which network `index` gives one answer, and the teacher departs or does not. */
export function stretchesOf(answers, index) {
  const stretches = [];
  answers.forEach((step, position) => {
    const [answer, departed] = [topClass(step[index]), departs(step, index)];
    const last = stretches.at(-1);
    if (last && last.answer === answer && last.departed === departed) last.end = position;
    else stretches.push({ answer, departed, start: position, end: position });
  });
  return stretches;
}
