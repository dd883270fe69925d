// Holds the ServiceMonitor and the PrometheusRule against the operator's own resource definitions, which
// kubernetes-validate does not know: operator.mjs PACKAGES RENDERED.YAML. Twice, because each way sees what the other
// does not: TypeScript finds a key that does not exist, the schema a value of the wrong form.
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [packages, file] = process.argv.slice(2);
const { parseAllDocuments } = createRequire(`${packages}/`)("yaml");
const models = "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";
const objects = parseAllDocuments(readFileSync(file, "utf8"))
  .map((document) => document.toJS())
  .filter((object) => object.apiVersion === "monitoring.coreos.com/v1");

for (const object of objects) {
  const { [object.kind]: Model } = await import(pathToFileURL(`${packages}/node_modules/${models}/${object.kind}.js`));
  new Model(object).validate();
}

const lines = objects.flatMap((object, i) => [
  `import type { I${object.kind} } from "./node_modules/${models}/${object.kind}.js";`,
  `export const object${i}: I${object.kind} = ${JSON.stringify(object)};`,
]);
writeFileSync(`${packages}/operator.ts`, lines.join("\n"));
const flags = "--noEmit --strict --skipLibCheck --moduleResolution bundler --module esnext --target es2022 operator.ts";
const tsc = spawnSync(`${packages}/node_modules/.bin/tsc`, flags.split(" "), { cwd: packages, encoding: "utf8" });
process.stderr.write(tsc.stdout);
console.log(`  ${objects.length} objects held against the operator's definitions`);
process.exit(objects.length === 2 ? tsc.status : 1);
