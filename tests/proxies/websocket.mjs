// A WebSocket client with Node's `ws`, for check.py: websocket.mjs MODULES URL
//
// The description, text, binary, fragments, a ping and a close have to arrive as they would without a proxy.
import assert from "node:assert/strict";
import { once } from "node:events";
import { createRequire } from "node:module";

const [modules, url] = process.argv.slice(2);
const { WebSocket } = createRequire(`${modules}/`)("ws");

const socket = new WebSocket(url);
const [description] = await once(socket, "message");
assert.equal(JSON.parse(description).target, new URL(url).pathname);

async function check(data, send) {
  send(data);
  const [message, binary] = await once(socket, "message");
  assert.equal(binary, typeof data !== "string");
  assert(Buffer.from(data).equals(message), `${message.length} bytes of ${data.length} came back`);
}

await check("M\u00fcller \u20ac", (text) => socket.send(text));
await check(Buffer.alloc(70000, 0xff), (bytes) => socket.send(bytes));
await check("M\u00fcller", () => {
  socket.send("M", { fin: false });
  socket.send("\u00fc", { fin: false });
  socket.send("ller", { fin: true });
});
socket.ping("are you there");
const [pong] = await once(socket, "pong");
assert.equal(String(pong), "are you there");
socket.close(3001, "bye");
const [code] = await once(socket, "close");
assert.equal(code, 3001);
