// Checks the dashboard against Grafana's own types: schema.mjs PACKAGES. Grafana ignores a key that it does not know,
// so a misspelt option goes unnoticed there; TypeScript's check for excess properties does not let it pass. The types
// are those of @grafana/schema, published with each Grafana release, the one whose image grafana.yaml names.
// A string literal is not assignable to a TypeScript enum, hence `Loose`, which turns enums into their values.
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";

const packages = process.argv[2];
const board = JSON.parse(readFileSync(new URL("../../k8s/monitoring/dashboard/httpserver.json", import.meta.url), "utf8"));
const kinds = ["heatmap", "logs", "stat", "timeseries"];

function program({ panels, ...dashboard }) {
  const from = "./node_modules/@grafana/schema/dist/types/raw/composable";
  // An annotation's query is typed as that of any data source, without `expr`; queries.py asks it instead.
  for (const note of dashboard.annotations.list) delete note.target?.expr;
  const lines = ['import type * as schema from "@grafana/schema";'];
  for (const kind of kinds) lines.push(`import type * as ${kind} from "${from}/${kind}/panelcfg/x/types.gen";`);
  lines.push(
    "type Loose<T> = unknown extends T ? T : T extends string ? `${T}` : T extends (infer U)[] ? Loose<U>[]",
    "  : T extends object ? { [K in keyof T]?: Loose<T[K]> } : T;",
    `export const dashboard: Loose<schema.Dashboard> = ${JSON.stringify(dashboard)};`,
  );
  for (const { options, ...panel } of panels.flatMap((p) => [p, ...(p.panels ?? [])])) {
    const { custom, ...defaults } = panel.fieldConfig?.defaults ?? {};
    if (panel.fieldConfig) panel.fieldConfig.defaults = defaults;
    const type = panel.type === "row" ? "RowPanel" : "Panel";
    lines.push(`export const panel${panel.id}: Loose<schema.${type}> = ${JSON.stringify(panel)};`);
    if (options) lines.push(`export const options${panel.id}: Loose<${panel.type}.Options> = ${JSON.stringify(options)};`);
    if (custom) lines.push(`export const custom${panel.id}: Loose<${panel.type}.FieldConfig> = ${JSON.stringify(custom)};`);
  }
  return lines.join("\n");
}

function compile(board) {
  writeFileSync(`${packages}/dashboard.ts`, program(structuredClone(board)));
  const flags = "--noEmit --strict --skipLibCheck --moduleResolution bundler --module esnext --target es2022";
  return spawnSync(`${packages}/node_modules/.bin/tsc`, [...flags.split(" "), "dashboard.ts"], { cwd: packages, encoding: "utf8" });
}

const broken = structuredClone(board);
broken.panels.find((p) => p.type === "heatmap").options.calcualte = false;
if (compile(broken).status === 0) {
  console.error("schema: the check does not notice a misspelt option");
  process.exit(1);
}
const { status, stdout } = compile(board);
if (status !== 0) console.error(stdout.replaceAll(/^/gm, "schema: "));
process.exit(status);
