// The three networks, run in the page by LiteRT on the CPU.

import { loadAndCompile, loadLiteRt, Tensor } from "@litertjs/core";

import { SIDE } from "./digit.js";

/** Reads `models.json` and the networks that it names; each gets a `model` to run. */
export async function loadNetworks() {
  const response = await fetch("models.json");
  if (!response.ok) throw new Error(`models.json: ${response.status} ${response.statusText}`);
  const description = await response.json();
  // LiteRT reports its start on the error stream, which browsers show as errors.
  self.Module = { printErr: (text) => console.debug(text) };
  await loadLiteRt("wasm/");
  for (const network of description.models) {
    network.model = await loadAndCompile(network.file, { accelerator: "wasm" });
  }
  return description;
}

/** Probabilities of the ten classes that a network gives to 64 pixels in [0, 1]. */
export async function probabilitiesOf(network, pixels) {
  const input = new Tensor(pixels, [1, SIDE, SIDE, 1]);
  const outputs = await network.model.run([input]);
  const logits = Array.from(outputs[0].toTypedArray());
  for (const tensor of [input, ...outputs]) tensor.delete();
  return softmax(logits);
}

/** What all networks say of the pixels: a list of probabilities in the order of the networks. */
export async function askAll(networks, pixels) {
  const answers = [];
  for (const network of networks) answers.push(await probabilitiesOf(network, pixels));
  return answers;
}

function softmax(logits) {
  const largest = Math.max(...logits);
  const weights = logits.map((logit) => Math.exp(logit - largest));
  const sum = weights.reduce((total, weight) => total + weight, 0);
  return weights.map((weight) => weight / sum);
}
