// What the page does in a real browser. tests/page.sh installs the browser and runs this.

import assert from "node:assert/strict";
import { connect, createServer } from "node:net";
import { after, before, test } from "node:test";

import { LIMIT, hasHaproxy, startBrowser, startHaproxy, startServer } from "./programs.mjs";

const FAST = ["--delay-max", "0s"];
let browser;

before(async () => {
  browser = await startBrowser();
});
after(() => browser.close());

/// Runs a test with a page, and ends what the test started. The console must stay without errors.
function withPage(name, body, { errors = false, context = {}, skip = false } = {}) {
  test(name, { timeout: 2 * LIMIT, skip }, async () => {
    const ends = [];
    const tab = await browser.newContext(context);
    tab.setDefaultTimeout(LIMIT);
    const page = await tab.newPage();
    const said = [];
    page.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) said.push(message.text());
    });
    page.on("pageerror", (error) => said.push(String(error)));
    const keep = async (starting) => {
      const program = await starting;
      ends.unshift(program.stop);
      return program;
    };
    try {
      await body(page, keep);
      if (!errors) assert.deepEqual(said, [], "the console");
    } finally {
      await tab.close();
      for (const end of ends) await end();
    }
  });
}

const number = async (page, id) => Number(await page.textContent("#" + id));

/// Waits until a function that runs in the page returns true.
const until = (page, condition, argument) => page.waitForFunction(condition, argument, { timeout: LIMIT });

/// Sets the rate, and has the page ask until so many responses have come.
async function ask(page, responses) {
  await page.fill("#rate", "10");
  await page.click("text=Start");
  await until(page, (least) => Number(document.getElementById("ok").textContent) >= least, responses);
}

/// Stops, and waits for the responses that are on their way.
async function stop(page) {
  await page.click("text=Stop");
  await until(page, () => !document.querySelector("#cells i:not([class])"));
}

const facts = (page) =>
  page.$$eval("dl:not([id]) div", (all) => all.map((one) => [...one.children].map((part) => part.textContent)));

const colors = (page) =>
  page.$$eval("#cells .ok", (cells) => [...new Set(cells.map((cell) => getComputedStyle(cell).backgroundColor))]);

withPage("shows the request and loads nothing", async (page, keep) => {
  const { url, address } = await keep(startServer(FAST, { VERSION: "7", POD_NAME: "pod-a" }));
  const loaded = [];
  page.on("request", (request) => loaded.push(request.url()));
  await page.setExtraHTTPHeaders({ "X-One": "first & <second>" });
  const target = "/a//b?c=d&e";
  const response = await page.goto(url + target);
  assert.equal(response.status(), 200);
  assert.deepEqual(loaded, [url + target]);
  assert.equal(await page.title(), "GET " + target);
  assert.equal(await page.textContent("h1"), "GET " + target);
  const shown = Object.fromEntries(await facts(page));
  assert.equal(shown.target, target);
  assert.equal(shown.local, address);
  assert.equal(shown.version, "7");
  assert.equal(shown.pod, "pod-a");
  const rows = await page.$$eval("tr", (all) => all.map((row) => [...row.cells].map((cell) => cell.textContent)));
  assert(rows.some(([name, value]) => name.toLowerCase() === "x-one" && value === "first & <second>"), rows);
  assert.match(await page.textContent(".notes"), /many proxies rewrite: \/\//);
});

withPage("is light and dark, and fits a phone", async (page, keep) => {
  const { url } = await keep(startServer(FAST));
  await page.setViewportSize({ width: 340, height: 640 });
  await page.goto(url + "/" + "long".repeat(60));
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  await page.emulateMedia({ colorScheme: "light" });
  const light = await ground();
  await page.emulateMedia({ colorScheme: "dark" });
  assert.notEqual(await ground(), light);
  assert(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "wider than a phone");
});

withPage("fills the histogram of a delay of 0 to 2 s", async (page, keep) => {
  const { url } = await keep(startServer());
  const closes = async () => {
    const text = await (await fetch(url + "/metrics")).text();
    return Number(/http_injected_faults_total\{fault="close"\} (\d+)/.exec(text)[1]);
  };
  const before = await closes();
  await page.goto(url);
  await ask(page, 60);
  assert.equal(await page.textContent("#rate-shown"), "10 a second");
  const bins = () =>
    [...document.querySelectorAll("#histogram title")].map(({ textContent }) => Number(textContent.split(": ")[1]));
  await until(page, `(${bins})().filter((number) => number > 0).length >= 8`);
  await stop(page);
  const filled = await page.evaluate(bins);
  const ok = await number(page, "ok");
  assert.equal(filled.reduce((sum, one) => sum + one), ok);
  assert.equal(await number(page, "asked"), ok);
  assert.equal(await number(page, "lost"), 0);
  assert.equal(await page.locator("#line .dot").count(), Math.min(ok, 180));
  // Stopped: nothing is asked for any more. Time alone can show that.
  await page.waitForTimeout(1000);
  assert.equal(await number(page, "asked"), ok);
  assert.equal(await closes() - before, ok, "a new connection for each request");
});

withPage("shows losses in red, with their reasons", async (page, keep) => {
  const server = await startServer(FAST);
  await page.goto(server.url + "/?echo-status=200:50,503:50");
  await ask(page, 1);
  await until(page, () => document.querySelector("#cells .lost"));
  await stop(page);
  const lost = await number(page, "lost");
  assert.match(await page.textContent("#sources"), new RegExp(`${lost} lost.*status 503${lost} lost`));
  assert.equal(await page.locator("#line .loss").count(), lost);
  const red = await page.$eval("#cells .lost", (cell) => getComputedStyle(cell).backgroundColor);
  const [r, g, b] = red.match(/\d+/g).map(Number);
  assert(r > 2 * g && r > 2 * b, red);
  assert(!(await colors(page)).includes(red));
  await server.stop();
  await page.click("text=Start");
  await until(page, () => document.getElementById("sources").textContent.includes("no whole response"));
}, { errors: true });

const noHaproxy = !hasHaproxy && "NOT RUN: two versions behind HAProxy: haproxy is not here and cannot be installed";
if (noHaproxy) console.log(noHaproxy);
withPage("names the version of an injected error", async (page, keep) => {
  const { url } = await keep(startServer([...FAST, "--error-rate", "0.5"], { VERSION: "7" }));
  while ((await page.goto(url)).status() !== 200);
  await ask(page, 1);
  await until(page, () => document.querySelector("#cells .lost"));
  await stop(page);
  assert.match(await page.textContent("#sources"), /version 7, unknown pod/);
}, { errors: true });

withPage("shows two instances behind HAProxy in two colours", async (page, keep) => {
  const one = await keep(startServer(FAST, { VERSION: "1" }));
  const two = await keep(startServer(FAST, { VERSION: "2" }));
  const proxy = await keep(startHaproxy([one, two]));
  await page.goto(proxy.url + "/checkout");
  await ask(page, 8);
  await stop(page);
  assert.equal((await colors(page)).length, 2);
  const [highest, fills] = await page.evaluate(() => {
    const pieces = (bar) => [...bar.querySelectorAll("rect")];
    const height = (bar) => pieces(bar).reduce((sum, piece) => sum + Number(piece.getAttribute("height")), 0);
    const bars = [...document.querySelectorAll("#histogram g")];
    const fills = bars.flatMap(pieces).map((piece) => piece.getAttribute("fill"));
    return [Math.max(...bars.map(height)), new Set(fills).size];
  });
  assert(Math.abs(highest - 100) < 0.01, "the highest bar: " + highest);
  assert.equal(fills, 2);
  const sources = await page.locator("#sources li").allTextContents();
  assert.match(sources.sort().join(), /^version 1, .*version 2, /);
}, { skip: noHaproxy });

const ATTACKS = [
  "<script>hacked=1</script>",
  "</title></style></pre></dd></td></h1><script>hacked=1</script>",
  "<img src=x onerror=hacked=1>",
  "<svg onload=hacked=1>",
  "\"' autofocus onfocus=hacked=1 x=\"'",
  "<!-- <base href=//x> &lt;script&gt; &#60;b&#62;",
].join("");

const range = (from, to) => Buffer.from(Array.from({ length: to - from + 1 }, (_, step) => from + step));

/// Bytes but these.
const without = (bytes, left) => bytes.filter((byte) => !left.includes(byte));

/// A request with attacks and every byte that may stand there in path, name, value and body.
function hostile(body) {
  const target = without(Buffer.concat([Buffer.from(ATTACKS), range(0x21, 0x7e)]), Buffer.from(" #"));
  return Buffer.concat([
    Buffer.from("GET //"), target, Buffer.from("?"), target,
    Buffer.from(" HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\nConnection: close\r\n"),
    Buffer.from("!#$%&'*+-.^_`|~a: " + ATTACKS), without(range(0x20, 0xff), [0x7f]),
    Buffer.from("\r\nX-Forwarded-For: " + ATTACKS),
    Buffer.from(`\r\nContent-Length: ${body.length}\r\n\r\n`), body,
  ]);
}

/// Starts a server that sends the same request to `address`, whatever it is asked, and passes the
/// response on, with or without its policy.
function startRelay(address, request, policy) {
  const [host, port] = address.split(":");
  const relay = createServer((client) => {
    client.once("data", () => {
      const server = connect(port, host);
      const parts = [];
      server.on("data", (part) => parts.push(part));
      server.on("end", () => {
        const response = Buffer.concat(parts).toString("latin1");
        client.end(policy ? response : response.replace(/^content-security-policy:.*\r\n/im, ""), "latin1");
      });
      server.write(request);
    });
    client.on("error", () => {});
  });
  return new Promise((resolve) => {
    relay.listen(0, "127.0.0.1", () => {
      const stop = () => new Promise((done) => relay.close(done));
      resolve({ url: "http://127.0.0.1:" + relay.address().port, stop });
    });
  });
}

/// Nothing but the page's own markup is in the page, and nothing else has run.
async function checkUnharmed(page) {
  const found = await page.evaluate(() => ({
    hacked: typeof hacked,
    scripts: document.scripts.length,
    styles: document.querySelectorAll("style").length,
    other: document.querySelectorAll("img, base, [onload], [onerror], [onfocus], [autofocus]").length,
    pictures: document.querySelectorAll("svg").length,
    comments: document.createTreeWalker(document, NodeFilter.SHOW_COMMENT).nextNode() !== null,
  }));
  assert.deepEqual(found, { hacked: "undefined", scripts: 1, styles: 1, other: 0, pictures: 2, comments: false });
}

for (const policy of [true, false]) {
  withPage(`runs no script of a hostile request ${policy ? "with" : "without"} its policy`, async (page, keep) => {
    const { address } = await keep(startServer(FAST));
    const text = Buffer.concat([Buffer.from("\n" + ATTACKS + "\u00e9"), range(0, 0x7f)]);
    const relay = await keep(startRelay(address, hostile(text), policy));
    const response = await page.goto(relay.url);
    assert.equal(response.status(), 200);
    assert.equal(Boolean(response.headers()["content-security-policy"]), policy);
    await checkUnharmed(page);
    assert(await page.isVisible("#live"), "the page's own script runs");
    const shown = text.toString().replace(/\r/g, "\n").replace(/[\0-\x08\x0b\x0c\x0e-\x1f\x7f]/g, "\ufffd");
    assert.equal(await page.textContent("pre"), shown);
    const cells = await page.$$eval("td", (all) => all.map((cell) => cell.textContent));
    assert.equal(cells.filter((cell) => cell.startsWith(ATTACKS)).length, 2);
    const binary = await keep(startRelay(address, hostile(range(0, 0xff)), policy));
    await page.goto(binary.url);
    await checkUnharmed(page);
    assert.equal(await page.textContent("pre"), "(256 bytes, not UTF-8)");
  });
}

withPage("shows a hostile pod and version as text", async (page, keep) => {
  const { url } = await keep(startServer(FAST, { VERSION: "<img src=x onerror=hacked=1>", POD_NAME: ATTACKS }));
  await page.goto(url);
  await ask(page, 3);
  await stop(page);
  await checkUnharmed(page);
  assert((await page.textContent("#sources")).startsWith(`version <img src=x onerror=hacked=1>, ${ATTACKS}`));
});

withPage("is the plain page without JavaScript", async (page, keep) => {
  const { url } = await keep(startServer(FAST));
  await page.goto(url + "/plain");
  assert(await page.isVisible("h1"));
  assert(await page.isVisible("tr"));
  assert(await page.isVisible("dd"));
  assert(await page.isHidden("#live"));
}, { context: { javaScriptEnabled: false } });

withPage("an EventSource reads /events", async (page, keep) => {
  const { url } = await keep(startServer(FAST, { VERSION: "7" }));
  await page.goto(url);
  const events = await page.evaluate(() => new Promise((resolve, reject) => {
    const source = new EventSource("/events?interval=100ms");
    const events = [];
    source.onerror = () => reject(new Error("the source failed"));
    source.onmessage = (event) => {
      events.push([event.lastEventId, JSON.parse(event.data).version]);
      if (events.length === 3) {
        source.close();
        resolve(events);
      }
    };
  }));
  assert.equal(new Set(events.map(([id]) => id)).size, 3);
  assert(events.every(([id, version]) => id && version === "7"), events);
});

withPage("a WebSocket gets the description, then its own messages", async (page, keep) => {
  const { url } = await keep(startServer(FAST));
  await page.goto(url);
  const { first, echoes, code } = await page.evaluate(() => new Promise((resolve, reject) => {
    const socket = new WebSocket("ws://" + location.host + "/socket");
    socket.binaryType = "arraybuffer";
    const messages = [];
    socket.onerror = () => reject(new Error("the socket failed"));
    socket.onmessage = ({ data }) => {
      messages.push(typeof data === "string" ? data : [...new Uint8Array(data)]);
      if (messages.length === 1) {
        socket.send("hello \u00e9");
        socket.send(new Uint8Array([0, 255, 7]));
      }
      if (messages.length === 3) socket.close(1000);
    };
    socket.onclose = ({ code }) => resolve({ first: messages[0], echoes: messages.slice(1), code });
  }));
  assert.equal(JSON.parse(first).target, "/socket");
  assert.deepEqual(echoes, ["hello \u00e9", [0, 255, 7]]);
  assert.equal(code, 1000);
});
