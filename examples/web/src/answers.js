// The table of what the networks answer to the drawing: a row for each digit, a column for each.

import { element, percent } from "./texts.js";
import { topClass } from "./walk.js";

/** Fills the table once; returns the function that shows new answers in it, or none (`null`). */
export function makeAnswers(table, networks, classNames) {
  const heads = networks.map((network) =>
    element(
      "th",
      { scope: "col", class: network.name },
      network.title,
      element("small", {}, `${percent(network.test_accuracy)} % on test digits`),
    ),
  );
  const verdicts = networks.map((network) =>
    element("td", { class: "verdict", "data-model": network.name }),
  );
  const cells = classNames.map((name) =>
    networks.map((network) =>
      element("td", { class: network.name, "data-model": network.name, "data-class": name }),
    ),
  );
  table.append(
    element("thead", {}, element("tr", {}, element("th", { scope: "col" }, ""), ...heads)),
    element(
      "tbody",
      {},
      element("tr", {}, element("th", { scope: "row" }, "says"), ...verdicts),
      ...cells.map((row, index) =>
        element("tr", {}, element("th", { scope: "row" }, classNames[index]), ...row),
      ),
    ),
  );
  return (answers) => {
    networks.forEach((_, column) => {
      showVerdict(verdicts[column], answers, column, classNames);
      cells.forEach((row, index) => showCell(row[column], answers?.[column], index));
    });
  };
}

function showVerdict(cell, answers, column, classNames) {
  const departed = answers && topClass(answers[column]) !== topClass(answers[0]);
  cell.replaceChildren(answers ? classNames[topClass(answers[column])] : "–");
  if (departed) cell.append(element("small", {}, "departs"));
}

function showCell(cell, probabilities, index) {
  const part = probabilities?.[index] ?? 0;
  cell.style.setProperty("--part", part);
  cell.textContent = probabilities ? percent(part) : "";
  cell.classList.toggle("top", Boolean(probabilities) && topClass(probabilities) === index);
}
