// Starts the programs that the tests of the page need, and ends them: httpserver, HAProxy, Chromium.

import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

const { BINARY, CHROMIUM, MODULES } = process.env;
const { chromium } = createRequire(MODULES + "/")("playwright-core");

/// A generous limit for whatever a test waits for, in ms.
export const LIMIT = 120000;

const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/// A browser with a profile of its own.
export function startBrowser(...flags) {
  return chromium.launch({ executablePath: CHROMIUM, args: [...FLAGS, ...flags], timeout: LIMIT });
}

/// Whether there is an HAProxy.
export const hasHaproxy = spawnSync("haproxy", ["-v"]).status === 0;

/// Starts a program; `stop` ends it with SIGTERM and waits for its end.
function start(program, flags, environment = {}) {
  const env = { ...process.env, ...environment };
  const child = spawn(program, flags, { env, stdio: ["ignore", "ignore", "pipe"] });
  const end = new Promise((resolve) => child.once("exit", resolve));
  const stop = () => {
    child.kill("SIGTERM");
    return end;
  };
  return { child, stop };
}

/// Starts an httpserver on a free port.
export async function startServer(flags = [], environment = {}) {
  const { child, stop } = start(BINARY, ["--listen", "127.0.0.1:0", ...flags], environment);
  const address = await new Promise((resolve, reject) => {
    let text = "";
    child.stderr.on("data", (data) => {
      text += data;
      const found = /listening on (127\.0\.0\.1:\d+)/.exec(text);
      if (found) resolve(found[1]);
    });
    child.once("error", reject);
    child.once("exit", () => reject(new Error("httpserver ended: " + text)));
  });
  return { address, url: "http://" + address, stop };
}

/// Starts an HAProxy that hands requests to these servers in turn.
export async function startHaproxy(servers) {
  const port = await freePort();
  const folder = mkdtempSync(join(tmpdir(), "haproxy-"));
  const file = join(folder, "haproxy.cfg");
  const lines = servers.map(({ address }, number) => `  server s${number} ${address}`);
  writeFileSync(file, `defaults
  mode http
  timeout connect 5s
  timeout client 75s
  timeout server 75s
  option forwardfor
listen echo
  bind 127.0.0.1:${port}
  balance roundrobin
${lines.join("\n")}
`);
  const { child, stop } = start("haproxy", ["-db", "-f", file]);
  child.stderr.resume();
  const url = "http://127.0.0.1:" + port;
  const answers = () => fetch(url + "/healthz").then(({ ok }) => ok, () => false);
  while (child.exitCode === null && !(await answers()));
  const remove = () => stop().then(() => rmSync(folder, { recursive: true }));
  return { port, url, stop: remove };
}

function freePort() {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}
