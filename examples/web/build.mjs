// Builds the page: node build.mjs --models=runs/web --output=examples/web/dist
//
// The output folder needs nothing but a server of static files. It holds the page, its program in one
// file, LiteRT's WebAssembly, and the models that train_models.py made.

import { cpSync, mkdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { build } from "esbuild";

const HERE = dirname(fileURLToPath(import.meta.url));
const RUNTIME = join(HERE, "node_modules/@litertjs/core/wasm");
// Without and with relaxed SIMD, of which LiteRT takes what the browser has.
const RUNTIME_FILES = ["litert_wasm_compat_internal", "litert_wasm_internal"];

const { values } = parseArgs({
  options: { models: { type: "string" }, output: { type: "string" } },
});
if (!values.models || !values.output) throw new Error("--models and --output are required");

const partial = `${values.output}.partial`;
rmSync(partial, { recursive: true, force: true });
mkdirSync(join(partial, "wasm"), { recursive: true });
for (const file of ["index.html", "style.css"]) cpSync(join(HERE, file), join(partial, file));
for (const name of RUNTIME_FILES.flatMap((file) => [`${file}.js`, `${file}.wasm`])) {
  cpSync(join(RUNTIME, name), join(partial, "wasm", name));
}
const { models } = JSON.parse(readFileSync(join(values.models, "models.json"), "utf8"));
for (const name of ["models.json", ...models.map((model) => model.file)]) {
  cpSync(join(values.models, name), join(partial, name));
}
await build({
  entryPoints: [join(HERE, "src/main.js")],
  outfile: join(partial, "main.js"),
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  logLevel: "warning",
});
rmSync(values.output, { recursive: true, force: true });
renameSync(partial, values.output);
