// Makes the picture of the README: two pods of version 1 and a slow canary of version 2
// with errors.
//
//   node screenshot.mjs FILE

import { LIMIT, startBrowser, startHaproxy, startServer } from "./programs.mjs";

const FAST = ["--delay-min", "20ms", "--delay-max", "220ms"];
const SLOW = ["--delay-min", "150ms", "--delay-max", "400ms", "--error-rate", "0.15"];

const pod = (name, version, node, flags) =>
  startServer(flags, { POD_NAME: name, POD_NAMESPACE: "httpserver", NODE_NAME: node, VERSION: version });

const pods = await Promise.all([
  pod("httpserver-5c9d8f7b6d-2xkqp", "1", "worker-1", FAST),
  pod("httpserver-5c9d8f7b6d-w7n4c", "1", "worker-2", FAST),
  pod("httpserver-7b4f6c9d58-m8w4t", "2", "worker-3", SLOW),
]);
const proxy = await startHaproxy(pods);
const browser = await startBrowser(`--host-resolver-rules=MAP echo.example.org 127.0.0.1:${proxy.port}`);
const page = await browser.newPage({ viewport: { width: 1240, height: 900 } });
page.setDefaultTimeout(LIMIT);
// An injected error may have replaced the page; then it is asked for again.
while ((await page.goto("http://echo.example.org/checkout?cart=42")).status() !== 200);
await page.fill("#rate", "10");
await page.click("#start");
await page.waitForFunction(() => document.getElementById("asked").textContent >= 150, null, { timeout: LIMIT });
await page.screenshot({ path: process.argv[2], fullPage: true });
await browser.close();
await proxy.stop();
await Promise.all(pods.map(({ stop }) => stop()));
