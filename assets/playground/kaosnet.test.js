// Tests of kaosnet.js, without a server and without waiting: node --test assets/playground/
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { KaosError, connect, text, wire } from "./kaosnet.js";

// ---- the codec ------------------------------------------------------------------------------------------------------

const hex = (data) => Array.from(data, (byte) => byte.toString(16).padStart(2, "0")).join("");

function unhex(digits) {
  return Uint8Array.from(digits.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}

// The page's JSON as the codec has it: `hex:` stands for bytes, `0x` for a session id.
function plain(value) {
  if (typeof value === "string" && value.startsWith("hex:")) return unhex(value.slice(4));
  if (typeof value === "string" && value.startsWith("0x")) return value.slice(2);
  if (Array.isArray(value)) return value.map(plain);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, plain(inner)]));
}

// Everything that `page` says must be in `read`; defaults may be left out on the page.
function says(page, read, at) {
  if (page instanceof Uint8Array) return assert.equal(hex(read), hex(page), at);
  if (page === null || typeof page !== "object") return assert.equal(read, page, at);
  if (Array.isArray(page)) assert.equal(read.length, page.length, at);
  for (const key of Object.keys(page)) says(page[key], read[key], `${at}.${key}`);
}

test("the hex examples of the protocol page", () => {
  const page = readFileSync(new URL("../proto/README.md", import.meta.url), "utf8");
  let examples = 0;
  for (const [, side, names, json, digits] of page.matchAll(/```message\n(\w+) (.+)\n([^]*?)\n=\n([^]*?)```/g)) {
    const frame = unhex(digits.replace(/#.*/g, "").replace(/\s/g, ""));
    const parsed = plain(JSON.parse(json));
    const all = names.includes(" + ") ? parsed : [parsed];
    const encoded = names.split(" + ").map((name, at) => hex(wire.encode(name, all[at])));
    assert.equal(encoded.join(""), hex(frame), names);
    wire.split(frame).forEach(({ op, payload }, at) => {
      const { name, fields } = wire.decode(side, op, payload);
      assert.equal(name, names.split(" + ")[at]);
      says(all[at], fields, name);
    });
    examples += 1;
  }
  assert.ok(examples >= 25, `${examples} examples`);
});

test("unknown fields are skipped, opcodes of a later version have no name", () => {
  const payload = unhex("0805" + "9a0603616263" + "a006ff01" + "a9060102030405060708" + "b50601020304" + "1207726f6f6d2e6964");
  const { fields } = wire.decode("client", 0x30, payload);
  assert.equal(fields.cid, 5);
  assert.equal(fields.op, "room.id");
  assert.deepEqual(wire.decode("server", 0x6f, payload), { name: null, fields: {} });
});

test("hostile bytes give a protocol error and nothing else", () => {
  let seed = 9;
  const dice = (sides) => (seed = (seed * 48271) % 2147483647) % sides;
  const good = wire.encode("RoomState", {
    handle: 1, room_id: "r", label: "{}", presences: [{ session_id: "00000000000000ff", username: "ada", index: 1 }],
  });
  for (let round = 0; round < 20_000; round++) {
    const frame = round % 2 ? good.slice() : Uint8Array.from({ length: dice(40) }, () => dice(256));
    for (let flips = dice(4); flips > 0 && frame.length > 0; flips--) frame[dice(frame.length)] = dice(256);
    try {
      for (const { op, payload } of wire.split(frame)) wire.decode("server", op, payload);
    } catch (error) {
      assert.equal(error.name, "protocol", error.stack);
    }
  }
});

test("what does not fit into a message is refused with its size", () => {
  assert.throws(() => wire.encode("RoomData", { handle: 0, index: 0, op: 0, data: new Uint8Array(65531) }), {
    name: "too_long",
    message: "65536 bytes do not fit into one message: at most 65535",
  });
  const unreliable = (length) => ({ handle: 0, index: 0, op: 0, data: new Uint8Array(length) });
  assert.equal(wire.encode("RoomDataUnreliable", unreliable(1112)).length, 1120);
  assert.throws(() => wire.encode("RoomDataUnreliable", unreliable(1113)), {
    name: "too_long",
    message: "1113 bytes do not fit into a datagram: at most 1112 can be sent unreliably",
  });
});

// ---- sessions, against a server in memory, on a clock that the test turns ---------------------------------------------

class Clock {
  time = 1000;
  timers = [];
  now = () => this.time;
  random = () => 0.5;
  clearTimeout = (timer) => (this.timers = this.timers.filter((other) => other !== timer));
  setTimeout = (run, ms) => {
    const timer = { at: this.time + ms, run };
    this.timers.push(timer);
    return timer;
  };

  // Lets all promises that can go on do so.
  static settle = () => new Promise((resolve) => setImmediate(resolve));

  async forward(ms) {
    const end = this.time + ms;
    for (;;) {
      await Clock.settle();
      const next = this.timers.filter((timer) => timer.at <= end).sort((a, b) => a.at - b.at)[0];
      if (!next) break;
      this.clearTimeout(next);
      this.time = Math.max(this.time, next.at);
      next.run();
    }
    this.time = end;
  }
}

// The server's side: what came on each connection, and how to answer.
function world({ answer = () => {} } = {}) {
  const clock = new Clock();
  const sockets = [];
  class Socket {
    bufferedAmount = 0;
    got = [];
    constructor(url) {
      this.url = url;
      sockets.push(this);
      setImmediate(() => (this.refuse ? this.onclose({ code: 1006 }) : this.onopen?.()));
    }
    send(message) {
      for (const { op, payload } of wire.split(message)) {
        const got = wire.decode("client", op, payload);
        this.got.push(got);
        answer(this, got);
      }
    }
    close() {
      this.shut = true;
    }
    say(...messages) {
      const parts = messages.map(([name, fields]) => wire.encode(name, fields));
      this.onmessage({ data: Buffer.concat(parts) });
    }
    named = (name) => this.got.filter((got) => got.name === name).map((got) => got.fields);
  }
  const options = { url: "http://127.0.0.1:7350", name: "ada", WebSocket: Socket, clock };
  return { clock, sockets, options, last: () => sockets.at(-1) };
}

const ROOM = "6f1c2d3e-0000-4000-8000-000000000001";
const token = (n) => new Uint8Array(16).fill(n);
const started = (more = {}) => ["SessionStarted", {
  protocol: 1, session_id: "0000beef00300007", username: "ada", resume_token: token(1),
  heartbeat_ms: 1000, seat_ms: 30000, received: {}, base: {}, ...more,
}];
const state = (more = {}) => ["RoomState", {
  handle: 3, room_id: ROOM, module: "arena", label: '{"open":true}', tick_rate: 30, tick: 7, max_players: 10,
  presences: [{ session_id: "0000beef00300007", username: "ada", index: 2, connected: true }], ...more,
}];
const data = (n) => ["RoomData", { handle: 3, index: 65535, op: n, data: "x" }];

async function joined() {
  const it = world();
  const connecting = connect(it.options);
  await Clock.settle();
  it.last().say(started());
  const session = await connecting;
  const joining = session.joinOrCreate("arena");
  it.last().say(state(), ["RoomJoined", { cid: 1, room_id: ROOM, handle: 3, index: 2, created: true }]);
  const room = await joining;
  const events = [];
  room.on("*", (event) => events.push(event));
  await it.clock.forward(1);
  return { ...it, session, room, events };
}

test("connect, join, send, receive, close", async () => {
  const { session, room, events, last, sockets, clock } = await joined();
  assert.equal(last().url, "ws://127.0.0.1:7350/kaos");
  assert.deepEqual(last().got.map((got) => got.name), ["SessionStart", "Heartbeat", "RoomJoin"]);
  assert.equal(last().named("SessionStart")[0].anonymous, "ada");
  assert.deepEqual([room.id, room.index, room.created, room.label], [ROOM, 2, true, { open: true }]);
  room.send(1, new Uint8Array([5]));
  assert.equal(hex(last().named("RoomData")[0].data), "05");
  last().say(
    ["RoomEvent", { handle: 3, joined: { presences: [{ session_id: "00000000000000b0", username: "bob", index: 4 }] } }],
    ["RoomData", { handle: 3, index: 4, op: 9, data: "hi" }],
    ["RoomEvent", { handle: 3, left: { presences: [{ session_id: "00000000000000b0", index: 4, reason: "left" }] } }],
  );
  assert.deepEqual(events.map((event) => event.type), ["State", "Joined", "Data", "Left"]);
  assert.equal(events[2].sender.username, "bob");
  assert.equal(events[2].text(), "hi");
  const rpc = session.rpc("echo", "hey");
  last().say(["RpcResponse", { cid: last().named("Rpc")[0].cid, payload: "hey" }]);
  assert.equal(text(await rpc), "hey");
  const call = session.call("room.list", { limit: 1 });
  last().say(["Error", { cid: last().named("Call")[0].cid, code: 8, name: "rate_limited", message: "slow", retry_ms: 9 }]);
  await assert.rejects(call, (error) => error instanceof KaosError && error.name === "rate_limited" && error.retryMs === 9);
  session.close();
  assert.equal(last().got.at(-1).name, "SessionEnd");
  assert.equal(events.at(-1).type, "Closed");
  assert.throws(() => room.send(1, ""), { name: "closed" });
  await clock.forward(60_000);
  assert.equal(sockets.length, 1);
  assert.deepEqual(clock.timers, []);
});

test("an event is heard by its name, and a name that the server has not is refused", async () => {
  const { session, last } = await joined();
  const heard = [];
  const listening = session.listen("guestbook.signed", (body) => heard.push(body));
  const event = (n) => ["Event", { name: "guestbook.signed", body: JSON.stringify({ page: n }) }];
  last().say(event(1));
  const offers = { ops: [], events: [{ name: "guestbook.signed" }] };
  last().say(["CallReply", { cid: last().named("Call")[0].cid, body: JSON.stringify(offers) }]);
  const stop = await listening;
  last().say(event(2), ["EventUnreliable", { name: "guestbook.signed", body: "3" }], ["Event", { name: "other", body: "4" }]);
  assert.deepEqual(heard, [{ page: 1 }, { page: 2 }, 3]);
  await assert.rejects(session.listen("guestbook.sigend", () => {}), {
    name: "no_such_event",
    message: "the server has no event `guestbook.sigend`. Did you mean `guestbook.signed`?",
  });
  await assert.rejects(session.listen("chat", () => {}), { message: "the server has no event `chat`; it has guestbook.signed" });
  assert.equal(last().named("Call").length, 1, "the list is asked for once");
  stop();
  last().say(event(5));
  assert.equal(heard.length, 3);
  assert.equal(session.received.control, 5, "four reliable events and the reply");
});

test("a server that cannot tell its events is asked once and believed, a refusal is asked again", async () => {
  const { session, last } = await joined();
  const refuse = (name, code) => last().say(["Error", { cid: last().named("Call").at(-1).cid, code, name, message: "no" }]);
  const refused = session.listen("anything", () => {});
  refuse("busy", 14);
  await assert.rejects(refused, { name: "busy" });
  const heard = [];
  const listening = session.listen("anything", (body) => heard.push(body));
  refuse("unimplemented", 12);
  await listening;
  await session.listen("anything", (body) => heard.push(body));
  assert.equal(last().named("Call").length, 2);
  last().say(["Event", { name: "anything", body: "" }]);
  assert.deepEqual(heard, [null, null], "once for each that listens, and not for the one that was refused");
  session.close();
  await assert.rejects(session.listen("anything", () => {}), { name: "closed" });
});

test("a heartbeat goes out each second, and at once after 32 KiB", async () => {
  const { last, clock, session } = await joined();
  const before = last().named("Heartbeat").length;
  await clock.forward(3000);
  assert.equal(last().named("Heartbeat").length, before + 3);
  const { client_time_us } = last().named("Heartbeat").at(-1);
  clock.time += 20;
  last().say(["Heartbeat", { client_time_us, received: { data: 1 } }]);
  assert.ok(Math.abs(session.rttMs - 21) < 0.01 || Math.abs(session.rttMs - 20) < 0.01, session.rttMs);
  assert.equal(session.keptMessages, 0);
  const count = last().named("Heartbeat").length;
  last().say(["RoomData", { handle: 3, index: 65535, op: 1, data: new Uint8Array(33_000) }]);
  assert.equal(last().named("Heartbeat").length, count + 1);
  assert.deepEqual(last().named("Heartbeat").at(-1).received, { control: 0, data: 3 });
});

test("a resume sends again what was not received, in order, before anything new", async () => {
  const { session, room, last, clock, sockets, events } = await joined();
  room.send(10, "a");                                    // data 2: will have arrived
  room.send(11, "b");                                    // data 3: lost with the connection
  last().say(data(1), data(2));                          // received: data 4
  const old = last();
  old.onclose({ code: 1006 });
  assert.equal(session.state, "waiting");
  room.send(12, "c");                                    // data 4: waits
  room.send(13, "now or never", { reliable: false });
  old.onmessage({ data: Buffer.concat([wire.encode(...data(66))]) });
  await clock.forward(0);
  assert.equal(sockets.length, 2);
  const { resume } = last().named("SessionStart")[0];
  assert.deepEqual(resume.received, { control: 0, data: 4 });
  assert.equal(resume.session_id, "0000beef00300007");
  assert.equal(hex(resume.token), hex(token(1)));
  last().say(started({ resumed: true, resume_token: token(2), received: { data: 2 }, base: { data: 4 } }));
  assert.deepEqual(last().named("RoomData").map((fields) => fields.op), [11, 12]);
  assert.deepEqual(last().got.map((got) => got.name), ["SessionStart", "RoomData", "RoomData", "Heartbeat"]);
  last().say(data(3));
  assert.deepEqual(events.filter((event) => event.type === "Data").map((event) => event.op), [1, 2, 3]);
  assert.equal(session.received.data, 5);
  last().onclose({ code: 1006 });
  await clock.forward(0);
  assert.equal(hex(last().named("SessionStart")[0].resume.token), hex(token(2)));
  assert.equal(session.resumes, 1);
});

test("a gap that overflowed the resend buffer is told, and the room begins anew", async () => {
  const { session, room, last, clock, events } = await joined();
  const told = [];
  session.on("Resumed", (event) => told.push(event.lost));
  const making = session.create("arena");                // its answer is kept whatever happens
  session.drop(5000);
  await clock.forward(4999);
  assert.equal(session.state, "waiting");
  await clock.forward(1);
  last().say(started({ resumed: true, received: { data: 2 }, base: { data: 2002 }, lost: 2000 }));
  last().say(["RoomCreated", { cid: 2, room_id: ROOM }], data(5), state({ lost: 2000, tick: 99, presences: [] }));
  assert.equal(await making, ROOM);
  assert.deepEqual(told, [2000]);
  assert.equal(session.lost, 2000);
  assert.deepEqual([room.tick, room.members.size, session.received.data], [99, 0, 2005]);
  assert.deepEqual(events.slice(-2).map((event) => [event.type, event.lost]), [["Data", undefined], ["State", 2000]]);
});

test("an unreachable server is tried again until the seat is gone", async () => {
  const { session, last, clock, sockets, options } = await joined();
  options.WebSocket.prototype.refuse = true;
  const waits = [];
  session.on("Waiting", (event) => waits.push(event.nextMs));
  const closed = [];
  session.on("Closed", (event) => closed.push(event.reason));
  last().onclose({ code: 1006 });
  await clock.forward(60_000);
  assert.deepEqual(waits.slice(0, 6), [0, 250, 500, 1000, 2000, 2000]);
  assert.deepEqual(closed, ["timed_out"]);
  assert.ok(sockets.length > 15 && sockets.length < 30, `${sockets.length}`);
  assert.deepEqual(clock.timers, []);
});

test("a resume that a busy server refuses is tried again, and the seat is kept", async () => {
  const { session, last, clock, sockets } = await joined();
  const closed = [];
  session.on("Closed", (event) => closed.push(event.reason));
  last().onclose({ code: 1006 });
  await clock.forward(0);
  last().say(["SessionEnd", { code: 14, reason: "busy", message: "full" }]);
  assert.equal(session.state, "waiting");
  await clock.forward(250);
  last().say(["SessionEnd", { code: 8, reason: "rate_limited", message: "too many session starts" }]);
  await clock.forward(500);
  assert.equal(sockets.length, 4);
  assert.equal(hex(last().named("SessionStart")[0].resume.token), hex(token(1)));
  last().say(started({ resumed: true, resume_token: token(2), received: { data: 1 }, base: { data: 2 } }));
  assert.deepEqual([session.state, session.resumes, closed], ["connected", 1, []]);
  // Any other reason is the end, while resuming too.
  last().onclose({ code: 1006 });
  await clock.forward(0);
  last().say(["SessionEnd", { code: 26, reason: "cannot_resume", message: "gone" }]);
  assert.deepEqual(closed, ["cannot_resume"]);
});

test("the server's reason ends session, rooms and requests in one word", async () => {
  const { session, last, events } = await joined();
  const rpc = session.rpc("slow", "");
  last().say(["SessionEnd", { code: 24, reason: "slow_reader", message: "too slow" }]);
  await assert.rejects(rpc, { name: "slow_reader" });
  assert.equal(events.at(-1).reason, "slow_reader");
  assert.equal(session.closed.reason, "slow_reader");
  const it = world();
  const refused = connect(it.options);
  await Clock.settle();
  it.last().say(["SessionEnd", { code: 20, reason: "client_too_old", message: "update" }]);
  await assert.rejects(refused, { name: "client_too_old", code: 20 });
});

test("silence for ten seconds is a lost connection", async () => {
  const { session, clock, sockets } = await joined();
  await clock.forward(10_000);
  assert.equal(session.state, "connected");
  await clock.forward(2_000);
  assert.equal(session.state, "waiting");
  assert.ok(sockets.length > 1);
});

test("silence is longer where the server asks for rare heartbeats", async () => {
  for (const [heartbeatMs, silenceMs] of [[50, 10_000], [5_000, 11_000], [30_000, 61_000]]) {
    const it = world();
    const connecting = connect(it.options);
    await Clock.settle();
    it.last().say(started({ heartbeat_ms: heartbeatMs }));
    const session = await connecting;
    assert.equal(session.silenceMs, silenceMs);
    await it.clock.forward(silenceMs);
    assert.equal(session.state, "connected");
    await it.clock.forward(1001);
    assert.equal(session.state, "waiting");
  }
});

test("a full resend buffer refuses instead of forgetting", async () => {
  const { room, session } = await joined();
  session.pause();
  for (let n = 0; n < 4; n++) room.send(1, new Uint8Array(60_000));
  assert.throws(() => room.send(1, new Uint8Array(60_000)), { name: "keep_full" });
  assert.equal(session.keptMessages, 5);                 // the join is the fifth
});

test("an address without a scheme is the server's HTTP port, and what is none is said", async () => {
  for (const [url, opened] of [
    ["127.0.0.1:7350", "ws://127.0.0.1:7350/kaos"],
    ["localhost:7350", "ws://localhost:7350/kaos"],
    ["[::1]:7350", "ws://[::1]:7350/kaos"],
    ["game.example/kaos", "ws://game.example/kaos"],
    ["https://game.example", "wss://game.example/kaos"],
  ]) {
    const it = world();
    connect(url, { ...it.options, url: undefined });
    await Clock.settle();
    assert.equal(it.last().url, opened);
  }
  for (const url of ["http://", "kaos://127.0.0.1:7352", "ftp://a", "a b:c", "127.0.0.1:port"]) {
    const it = world();
    await assert.rejects(connect(url, { ...it.options, url: undefined }), (error) => {
      assert.ok(error instanceof KaosError, `${url}: ${error}`);
      assert.equal(error.name, "url");
      assert.match(error.message, /http:\/\/127\.0\.0\.1:7350/);
      return true;
    });
    assert.equal(it.sockets.length, 0);
  }
});

test("without a WebSocket it is said what to do", async () => {
  const before = Object.getOwnPropertyDescriptor(globalThis, "WebSocket");
  Object.defineProperty(globalThis, "WebSocket", { value: undefined, configurable: true, writable: true });
  try {
    await assert.rejects(connect("http://127.0.0.1:7350"), { name: "no_websocket", message: /Node 22.*`ws`.*options\.WebSocket/ });
  } finally {
    if (before) Object.defineProperty(globalThis, "WebSocket", before);
    else delete globalThis.WebSocket;
  }
});

test("the client's own ends have one word each", async () => {
  const asked = await joined();
  asked.session.close();
  assert.equal(asked.session.closed.reason, "closed");
  assert.equal(asked.events.at(-1).reason, "closed");
  assert.throws(() => asked.room.send(1), { name: "closed" });
  const it = world();
  const connecting = connect({ ...it.options, resume: false });
  await Clock.settle();
  it.last().say(started());
  const session = await connecting;
  it.last().onclose({ code: 1006 });
  assert.deepEqual([session.closed.reason, session.closed.code], ["lost", 0]);
});

test("the words of both clients stand on the protocol page", () => {
  const read = (path) => readFileSync(new URL(path, import.meta.url), "utf8");
  const page = read("../proto/README.md");
  const faults = new Set(Array.from(page.matchAll(/^\| \d+ \| `(\w+)` \|/gm), (row) => row[1]));
  const table = page.split("### Words of the clients")[1].split("All these lists")[0];
  const listed = new Set(Array.from(table.matchAll(/^\| `(\w+)` \|/gm), (row) => row[1]));
  const said = (text, pattern) => Array.from(text.matchAll(pattern), (found) => found[1]);
  const client = (file) => read(`../../systems/client/src/${file}`);
  const words = new Set([
    ...said(read("./kaosnet.js"), /KaosError\("(\w+)"/g),
    ...said(read("./kaosnet.js"), /#end\(\{ code: \d+, reason: "(\w+)"/g),
    ...said(client("error.rs"), /Error::\w+(?: \{ \.\. \})? => "(\w+)"/g),
    ...said(client("error.rs") + client("core.rs"), /End::own\(\s*"(\w+)"/g),
  ]);
  assert.ok(words.size >= 10, [...words].join(" "));
  assert.deepEqual([...words].filter((word) => !listed.has(word) && !faults.has(word)), []);
  assert.deepEqual([...listed].filter((word) => !words.has(word)), []);
});

test("a loop over a room begins with its state and ends after Closed", async () => {
  const { room, last, clock } = await joined();
  const seen = [];
  const loop = (async () => {
    for await (const event of room) seen.push(event.type);
  })();
  await clock.forward(1);
  last().say(data(1), ["RoomEvent", { handle: 3, closed: { reason: "ended", message: "over" } }], data(2));
  await loop;
  assert.deepEqual(seen, ["State", "Data", "Closed"]);
});
