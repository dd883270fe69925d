
"use strict";
// Asks for the page's own path again and again, and draws what comes back. What a response says
// reaches the page as text or as an attribute's value, never as markup.

const IN_FLIGHT = 6; // a browser opens no more connections to one server; others would queue
const TIMEOUT = 10000; // ms; a response that takes longer is lost
const SHOWN = 180; // requests in the line and in the cells
const BINS = 24;
const WIDTHS = [1, 2, 5, 10, 20, 50, 100, 200, 500]; // of a bin, in ms
const HUES = [212, 38, 160, 276, 90, 186]; // of versions; none is near red, the colour of losses
const SHADES = [50, 66, 38, 76, 30]; // of the pods of one version

const byId = (id) => document.getElementById(id);
const query = location.search ? location.search + "&" : "?";
// With the origin, because a path may begin with two slashes.
const url = location.origin + location.pathname + query + "echo-close";

const requests = []; // the last SHOWN, in the order of asking
const latencies = countsByMs();
const sources = new Map(); // who responded, by version and pod
const losses = new Map(); // how many requests were lost, by reason
const count = { asked: 0, ok: 0, lost: 0, inFlight: 0 };
let timer = 0;

// How many responses took so many ms.
function countsByMs() {
  return new Uint32Array(TIMEOUT + 1);
}

function add(parent, name, attributes = {}) {
  const space = parent.namespaceURI;
  const element = parent.appendChild(document.createElementNS(space, name));
  for (const key in attributes) element.setAttribute(key, attributes[key]);
  return element;
}

function time(ms) {
  return ms < 1000 ? Math.round(ms) + " ms" : +(ms / 1000).toFixed(2) + " s";
}

function percentile(share) {
  let left = Math.max(1, Math.ceil(count.ok * share));
  return latencies.findIndex((number) => (left -= number) <= 0);
}

// One request, from its cell in the strip to its place in the counts.
async function ask() {
  if (count.inFlight === IN_FLIGHT) return;
  const request = { cell: add(byId("cells"), "i") };
  requests.push(request);
  if (requests.length > SHOWN) requests.shift().cell.remove();
  count.asked += 1;
  count.inFlight += 1;
  const start = performance.now();
  try {
    const response = await fetch(url, {
      headers: { Accept: "application/json" },
      cache: "no-store",
      redirect: "manual",
      signal: AbortSignal.timeout(TIMEOUT),
    });
    const text = await response.text();
    request.latency = Math.min(performance.now() - start, TIMEOUT);
    const ok = response.ok || response.type === "opaqueredirect";
    if (!ok) request.loss = "status " + response.status;
    request.source = sourceOf(response, text);
  } catch (error) {
    const late = error.name === "TimeoutError";
    request.loss = late ? "no response in " + time(TIMEOUT) : "no whole response";
  }
  count.inFlight -= 1;
  finish(request);
}

// Who sent a response, by the version and the pod that it names; made at the first response. An error
// that was injected names only the version.
function sourceOf(response, text) {
  let facts = {};
  try {
    facts = JSON.parse(text) || {};
  } catch {
    // Not a description of a request.
  }
  const { hostname = "unknown pod", pod = hostname } = facts;
  const version = facts.version || response.headers.get("Version");
  const name = version ? `version ${version}, ${pod}` : "unknown server";
  if (!sources.has(name)) {
    const color = version ? newColor(version) : "gray";
    sources.set(name, { version, name, color, latencies: countsByMs(), ok: 0, lost: 0 });
  }
  return sources.get(name);
}

// A hue for each version, and a shade of it for each pod.
function newColor(version) {
  const known = [...sources.values()].map((source) => source.version);
  const place = [...new Set([...known, version])].indexOf(version);
  const pods = known.filter((other) => other === version).length;
  return `hsl(${HUES[place % HUES.length]} 70% ${SHADES[pods % SHADES.length]}%)`;
}

function finish({ cell, source, loss, latency }) {
  if (loss) {
    count.lost += 1;
    losses.set(loss, (losses.get(loss) || 0) + 1);
    if (source) source.lost += 1;
    cell.className = "lost";
    cell.title = source ? `${source.name}: ${loss}` : loss;
  } else {
    const ms = Math.round(latency);
    count.ok += 1;
    source.ok += 1;
    latencies[ms] += 1;
    source.latencies[ms] += 1;
    cell.className = "ok";
    cell.style.background = source.color;
    cell.title = `${source.name}: ${time(latency)}`;
  }
  draw();
}

function draw() {
  const percent = (share) => (count.ok ? time(percentile(share)) : "–");
  byId("asked").textContent = count.asked;
  byId("ok").textContent = count.ok;
  byId("lost").textContent = count.lost;
  byId("lost").className = count.lost ? "lost" : "";
  byId("p50").textContent = percent(0.5);
  byId("p99").textContent = percent(0.99);
  if (count.ok) {
    const longest = percentile(1);
    const width = WIDTHS.find((width) => width * BINS > longest);
    drawHistogram(width);
    drawLine(width * BINS);
    byId("half").textContent = time((width * BINS) / 2);
    byId("most").textContent = byId("height").textContent = time(width * BINS);
  }
  drawSources();
}

// A bar for each bin, made of a piece for each source.
function drawHistogram(width) {
  const inBin = (counts, bin) =>
    counts.subarray(bin * width, (bin + 1) * width).reduce((sum, number) => sum + number, 0);
  const bins = Array.from({ length: BINS }, (_, bin) => inBin(latencies, bin));
  const unit = 100 / Math.max(...bins);
  byId("histogram").replaceChildren();
  bins.forEach((number, bin) => {
    const bar = add(byId("histogram"), "g");
    const from = bin * width;
    add(bar, "title").textContent = `${time(from)} to ${time(from + width)}: ${number}`;
    let y = 100;
    for (const { latencies, color } of sorted()) {
      const height = inBin(latencies, bin) * unit;
      y -= height;
      add(bar, "rect", { x: bin + 0.06, width: 0.88, y, height, fill: color });
    }
  });
}

// The sources by version and pod.
function sorted() {
  return [...sources.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}

function drawLine(top) {
  const line = byId("line");
  line.replaceChildren();
  line.setAttribute("viewBox", `-1 0 ${Math.max(60, requests.length) + 1} 100`);
  const points = add(line, "polyline");
  let path = "";
  requests.forEach(({ latency, source, loss }, x) => {
    if (loss) {
      add(line, "path", { class: "loss", d: `M${x} 0V100` });
    } else if (latency !== undefined) {
      const y = 98 - (96 * latency) / top;
      path += `${x},${y} `;
      // A line without length: its round ends make a dot, which a stretched circle would not be.
      add(line, "path", { class: "dot", d: `M${x} ${y}h0`, stroke: source.color });
    }
  });
  points.setAttribute("points", path);
}

function drawSources() {
  const list = byId("sources");
  list.replaceChildren();
  const entry = (name, ok, lost, color) => {
    const item = add(list, "li");
    const mark = add(item, "i");
    if (color) mark.style.background = color;
    add(item, "span").textContent = name;
    if (lost) add(item, "b", { class: "lost" }).textContent = lost + " lost";
    if (ok) add(item, "b").textContent = ok + " ok";
  };
  for (const { name, ok, lost, color } of sorted()) entry(name, ok, lost, color);
  for (const [reason, number] of losses) entry(reason, 0, number);
}

function run(on) {
  clearInterval(timer);
  timer = on ? setInterval(ask, 1000 / byId("rate").value) : 0;
  byId("start").textContent = on ? "Stop" : "Start";
  if (on) ask();
}

byId("start").addEventListener("click", () => run(!timer));
byId("rate").addEventListener("input", () => {
  byId("rate-shown").textContent = byId("rate").value + " a second";
  if (timer) run(true);
});
byId("histogram").setAttribute("viewBox", `0 0 ${BINS} 100`);
byId("live").hidden = false;
