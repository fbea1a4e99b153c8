// Uses the page as people do, and prints as JSON what it showed.
//
//   node browse.mjs --address=http://localhost:8000/ --browser=/usr/bin/chromium
//
// With --pictures=FOLDER it also takes a picture of the page at the width of a desktop and a phone.

import { join } from "node:path";
import { parseArgs } from "node:util";

import { chromium } from "playwright-core";

// No sandbox, which root cannot have, and nothing that the browser does on its own.
const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
];
// Points of a drawing area of size 1.
const LINE = [[[0.5, 0.2], [0.5, 0.8]]];
const FOUR = [[[0.5, 0.12], [0.28, 0.55], [0.75, 0.55]], [[0.6, 0.35], [0.6, 0.88]]];

const { values } = parseArgs({
  options: {
    address: { type: "string" }, browser: { type: "string" }, pictures: { type: "string" },
  },
});

/** A page that notes its errors and requests, with all models loaded. */
async function open(browser, seen, options) {
  const page = await browser.newPage(options);
  page.on("request", (request) => seen.requests.push(request.url()));
  page.on("pageerror", (error) => seen.errors.push(String(error)));
  page.on("console", (message) => {
    if (message.type() === "error") seen.errors.push(message.text());
  });
  await page.goto(values.address);
  await page.waitForSelector("html[data-ready]", { timeout: 60_000, state: "attached" });
  return page;
}

/** The table as numbers in per cent by model, once it shows what was entered last. */
function readAnswers(page) {
  return page.evaluate(async () => {
    await new Promise((resolve) => setTimeout(resolve, 300));
    const answers = {};
    for (const cell of document.querySelectorAll("#answers td[data-class]")) {
      (answers[cell.dataset.model] ??= []).push(Number(cell.textContent || NaN));
    }
    const levels = document.getElementById("seen").dataset.levels.split(",").map(Number);
    return { levels, answers, spoken: document.getElementById("spoken").textContent };
  });
}

async function draw(page, strokes) {
  const box = await page.locator("#pad").boundingBox();
  const place = ([x, y]) => [box.x + x * box.width, box.y + y * box.height];
  for (const [first, ...others] of strokes) {
    await page.mouse.move(...place(first));
    await page.mouse.down();
    for (const point of others) await page.mouse.move(...place(point), { steps: 8 });
    await page.mouse.up();
  }
}

/** Each place of the walk that keys take the slider to. */
async function readWalk(page) {
  const places = [];
  await page.locator("#slider").focus();
  for (const key of ["Home", "ArrowRight", "PageUp", "PageUp", "PageUp", "End"]) {
    await page.keyboard.press(key);
    places.push(
      await page.evaluate(() => ({
        step: Number(document.getElementById("slider").value),
        spoken: document.getElementById("slider").getAttribute("aria-valuetext"),
        texts: [...document.querySelectorAll("#places li")].map((item) => item.textContent),
      })),
    );
  }
  const departed = await page.locator(".stretch.departed").count();
  return { places, departed, summary: await page.locator("#summary").textContent() };
}

async function onDesktop(browser, seen) {
  const page = await open(browser, seen, { viewport: { width: 1280, height: 900 } });
  seen.examples = [];
  for (const button of await page.locator("#examples button").all()) {
    await button.click();
    seen.examples.push(await readAnswers(page));
  }
  await page.locator("#clear").click();
  seen.cleared = await readAnswers(page);
  await draw(page, LINE);
  seen.line = await readAnswers(page);
  await page.locator("#keep-start").click();
  await page.locator("#pad").focus();
  await page.keyboard.press("8");
  await page.keyboard.press("8");
  seen.key = await readAnswers(page);
  await page.locator("#keep-end").focus();
  await page.keyboard.press("Enter");
  await page.waitForTimeout(1500);
  seen.walk = await readWalk(page);
  await page.close();
}

async function onPhone(browser, seen) {
  const options = { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true };
  const page = await open(browser, seen, options);
  await page.locator("#clear").tap();
  await page.locator("#pad").tap();
  seen.tap = await readAnswers(page);
  seen.phoneWidth = await page.evaluate(() => document.documentElement.scrollWidth);
  await page.close();
}

async function takePictures(browser, seen) {
  for (const [name, width] of [["browser_demo", 1280], ["browser_demo_phone", 390]]) {
    const page = await open(browser, seen, { viewport: { width, height: 900 } });
    await page.locator("#clear").click();
    await draw(page, FOUR);
    await page.locator("#keep-start").click();
    await page.waitForTimeout(2000);
    const path = join(values.pictures, `${name}.png`);
    await page.screenshot({ path, fullPage: true });
    await page.close();
  }
}

const seen = { errors: [], requests: [] };
const browser = await chromium.launch({ executablePath: values.browser, args: FLAGS });
await onDesktop(browser, seen);
await onPhone(browser, seen);
if (values.pictures) await takePictures(browser, seen);
await browser.close();
console.log(JSON.stringify(seen));
