// Parses the dashboard's LogQL with the grammar of Grafana's own editor, and holds every name in it against what is
// really there: logql.mjs PACKAGES LOGFILE <queries.json. Before `| json` these are the labels and the structured
// metadata that Alloy sets (read from its configuration); after it, the fields of the server's log lines as well
// (read from LOGFILE, a real one). Loki itself is not at hand where this runs, so this is the nearest proof: a wrong
// name in LogQL is no error but an empty panel.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [packages, logFile] = process.argv.slice(2);
const { parser } = createRequire(`${packages}/`)("@grafana/lezer-logql");
const alloy = readFileSync(new URL("../../k8s/monitoring/alloy/config.alloy", import.meta.url), "utf8");

function fromAlloy() {
  const labels = alloy.match(/stage\.label_keep {\s*values = (\[.*\])/)[1];
  const metadata = alloy.match(/stage\.structured_metadata {\s*values = {(.*)}/)[1];
  return { labels: JSON.parse(labels), metadata: [...metadata.matchAll(/(\w+) =/g)].map((m) => m[1]) };
}

function fromLog() {
  const fields = new Set();
  for (const line of readFileSync(logFile, "utf8").split("\n").filter(Boolean)) {
    for (const name of Object.keys(JSON.parse(line))) fields.add(name);
  }
  return fields;
}

function problems(query, { labels, metadata }, fields) {
  const found = [];
  const sent = new Set([...labels, ...metadata, "__error__"]);
  const all = new Set([...sent, ...fields]);
  let [inSelector, inGrouping, parsed] = [false, false, false];
  const names = () => (parsed || (inGrouping && query.includes("| json")) ? all : sent);
  const check = (name, allowed) => allowed.has(name) || found.push(`no ${name} is known there`);
  parser.parse(query).iterate({
    enter(node) {
      const text = query.slice(node.from, node.to);
      if (node.type.isError) found.push(`syntax error at ${node.from}: ${query.slice(node.from, node.from + 20)}`);
      if (node.name === "Selector") inSelector = true;
      if (node.name === "Grouping") inGrouping = true;
      if (node.name === "Json") parsed = true;
      if (node.name === "Identifier") check(text, inSelector ? new Set(labels) : names());
      if (node.name === "LineFormatExpr") for (const [, name] of text.matchAll(/\.(\w+)/g)) check(name, all);
    },
    leave(node) {
      if (node.name === "Selector") inSelector = false;
      if (node.name === "Grouping") inGrouping = false;
    },
  });
  return found;
}

const sent = fromAlloy();
const fields = fromLog();
const queries = JSON.parse(readFileSync(0, "utf8"));
let failed = queries.length === 0 || fields.size === 0;
for (const [where, query] of queries) {
  for (const problem of problems(query, sent, fields)) {
    failed = true;
    console.error(`logql: ${where}: ${problem}: ${query}`);
  }
}
// What must be found, or nothing above was looked for.
for (const broken of ['{app="x"} | json |', '{pod="x"}', '{app="x"} | status="200"', '{app="x"} | json | nope="1"']) {
  if (problems(broken, sent, fields).length === 0) {
    failed = true;
    console.error(`logql: the check does not notice ${broken}`);
  }
}
console.log(`  ${queries.length} LogQL queries parsed against ${fields.size} fields of the log`);
process.exit(failed ? 1 : 0);
