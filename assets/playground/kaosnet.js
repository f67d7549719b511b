/**
 * KaosNet for browsers and Node: sessions, rooms, rpcs and calls over WebSocket, in one file without dependencies.
 *
 *   import { connect } from "./kaosnet.js";
 *   const session = await connect("http://127.0.0.1:7350", { name: "ada" });
 *   const room = await session.joinOrCreate("arena");
 *   room.send(1, new Uint8Array([5]));                    // reliable and ordered
 *   for await (const event of room) console.log(event);   // Joined, Left, Data, State, Closed ...
 *
 * A connection that is lost comes back by itself on the same seat, and no reliable message is lost or doubled on the
 * way. If it cannot, `Closed` says why in one word. The protocol: assets/proto/README.md. Types: kaosnet.d.ts.
 * Node 22 has a WebSocket; for an older one, give a class with the same interface as `options.WebSocket`, such as that
 * of the package `ws`.
 * @module
 */

/** The protocol versions that this file speaks. */
export const PROTOCOL_MIN = 1;
export const PROTOCOL_MAX = 1;

/** The index that means the server (as a sender) and the room (as a recipient) in RoomData. */
export const SERVER = 65535;

const PAYLOAD_MAX = 65535;
const UNRELIABLE_MAX = 1112;           // bytes of data that fit into a datagram, whatever the transport
const RESEND_MAX = 256 * 1024;           // bytes that wait for an acknowledgement; more is refused as `keep_full`
const ACKNOWLEDGE_AFTER = 32 * 1024;   // bytes received after which a heartbeat goes out at once
const SILENCE_MS = 10_000;             // without any message: the connection is lost; longer with rare heartbeats
const ATTEMPT_MS = 5_000;              // for one attempt to connect
const BACKOFF_MS = [0, 250, 500, 1000, 2000];
const STALE_BYTES = 64 * 1024;         // unsent bytes over which unreliable data is dropped at the source
const ITERATOR_MAX = 4096;             // events that wait in one iterator; over it the loop throws `slow_reader`

/**
 * A refusal or a failure. `name` is one word that a program can match: a fault of the server (`not_found`, `full`,
 * `rate_limited`, ...), or one of the client's own, which are the same in every client and stand in
 * assets/proto/README.md: `url` (no address of a server), `no_websocket` (this Node has none, and no
 * `options.WebSocket` was given), `unreachable` (no connection could be made), `closed` (the session or room is over),
 * `too_long` (more than one message can carry), `keep_full` (256 KiB wait already), `slow_reader` (a `for await` loop
 * left 4,096 events waiting), `no_such_event` (the server has no event of this name; the message says which is near).
 */
export class KaosError extends Error {
  constructor(name, message, code = 0, retryMs = 0) {
    super(message);
    this.name = name;
    this.code = code;
    this.retryMs = retryMs;
  }
}

// ---- the wire: protobuf for the control payloads ------------------------------------------------------------------

// Per message its fields: number, name, kind. A kind in brackets is repeated; `oneof:` marks members of a oneof, which
// are written even when they have the default; `map` is text to text; other names are messages.
const SCHEMAS = {
  Counts: [[1, "control", "u64"], [2, "data", "u64"]],
  Resume: [[1, "session_id", "id"], [2, "token", "bytes"], [3, "received", "Counts"]],
  SessionStart: [
    [1, "protocol_min", "u32"], [2, "protocol_max", "u32"], [3, "client", "text"], [4, "token", "oneof:text"],
    [5, "anonymous", "oneof:text"], [6, "resume", "oneof:Resume"], [7, "vars", "map"],
  ],
  SessionStarted: [
    [1, "protocol", "u32"], [2, "session_id", "id"], [3, "user_id", "text"], [4, "username", "text"],
    [5, "resume_token", "bytes"], [6, "resumed", "bool"], [7, "received", "Counts"], [8, "base", "Counts"],
    [9, "lost", "u64"], [10, "heartbeat_ms", "u32"], [11, "seat_ms", "u32"], [12, "server_time_ms", "u64"],
    [13, "node", "text"],
  ],
  SessionEnd: [[1, "code", "u32"], [2, "reason", "text"], [3, "message", "text"]],
  Heartbeat: [[1, "client_time_us", "u64"], [2, "received", "Counts"], [3, "server_time_ms", "u64"], [4, "rtt_us", "u32"]],
  Presence: [
    [1, "session_id", "id"], [2, "user_id", "text"], [3, "username", "text"], [4, "index", "u32"],
    [5, "connected", "bool"], [6, "reason", "text"],
  ],
  RoomCreate: [
    [1, "cid", "u32"], [2, "module", "text"], [3, "params", "text"], [4, "label", "text"], [5, "max_players", "u32"],
  ],
  RoomCreated: [[1, "cid", "u32"], [2, "room_id", "text"]],
  RoomJoin: [
    [1, "cid", "u32"], [2, "room_id", "text"], [3, "module", "text"], [4, "params", "text"], [5, "metadata", "text"],
    [6, "label", "text"], [7, "max_players", "u32"],
  ],
  RoomJoined: [
    [1, "cid", "u32"], [2, "room_id", "text"], [3, "handle", "u32"], [4, "index", "u32"], [5, "created", "bool"],
  ],
  RoomLeave: [[1, "cid", "u32"], [2, "room_id", "text"]],
  RoomLeft: [[1, "cid", "u32"], [2, "room_id", "text"]],
  RoomState: [
    [1, "handle", "u32"], [2, "room_id", "text"], [3, "module", "text"], [4, "label", "text"], [5, "tick_rate", "u32"],
    [6, "tick", "u64"], [7, "server_time_ms", "u64"], [8, "max_players", "u32"], [9, "presences", ["Presence"]],
    [10, "lost", "u64"],
  ],
  Presences: [[1, "presences", ["Presence"]]],
  RoomClosed: [[1, "code", "u32"], [2, "reason", "text"], [3, "message", "text"]],
  RoomEvent: [
    [1, "handle", "u32"], [2, "joined", "oneof:Presences"], [3, "left", "oneof:Presences"],
    [4, "closed", "oneof:RoomClosed"], [5, "label", "oneof:text"], [6, "changed", "oneof:Presences"],
  ],
  Rpc: [[1, "cid", "u32"], [2, "id", "text"], [3, "payload", "bytes"]],
  RpcResponse: [[1, "cid", "u32"], [2, "payload", "bytes"]],
  Call: [[1, "cid", "u32"], [2, "op", "text"], [3, "body", "bytes"]],
  CallReply: [[1, "cid", "u32"], [2, "body", "bytes"]],
  Error: [[1, "cid", "u32"], [2, "code", "u32"], [3, "name", "text"], [4, "message", "text"], [5, "retry_ms", "u32"]],
  Event: [[1, "name", "text"], [2, "body", "bytes"]],
};

// Per opcode: what a client sends, what a server sends, the schema, and the channel that counts it for resume.
const OPS = {
  0x01: { client: "SessionStart", server: "SessionStarted" },
  0x02: { client: "SessionEnd", server: "SessionEnd" },
  0x03: { client: "Heartbeat", server: "Heartbeat" },
  0x10: { client: "RoomCreate", server: "RoomCreated", counted: "data" },
  0x11: { client: "RoomJoin", server: "RoomJoined", counted: "data" },
  0x12: { client: "RoomLeave", server: "RoomLeft", counted: "data" },
  0x13: { client: "RoomData", server: "RoomData", counted: "data" },
  0x14: { server: "RoomState", counted: "data" },
  0x15: { server: "RoomEvent", counted: "data" },
  0x16: { client: "RoomDataUnreliable", server: "RoomDataUnreliable" },
  0x17: { server: "RoomError", counted: "data" },
  0x20: { client: "Rpc", counted: "control" },
  0x21: { server: "RpcResponse", counted: "control" },
  0x30: { client: "Call", server: "CallReply", counted: "control" },
  0x31: { server: "Error", counted: "control" },
  0x32: { server: "Event", counted: "control" },
  0x33: { server: "EventUnreliable" },
};
const OP_OF = {};
for (const [op, row] of Object.entries(OPS)) {
  for (const name of [row.client, row.server]) if (name) OP_OF[name] = Number(op);
}
// Messages whose payload is another's.
const SCHEMA_OF = { RoomError: "Error", EventUnreliable: "Event" };
const RAW = new Set(["RoomData", "RoomDataUnreliable"]);

const utf8 = new TextEncoder();
const fromUtf8 = new TextDecoder("utf-8", { ignoreBOM: true });
const NO_BYTES = new Uint8Array(0);

/** Text as UTF-8 bytes; bytes as they are. */
export function bytes(value) {
  if (typeof value === "string") return utf8.encode(value);
  if (value instanceof Uint8Array) return value;
  if (value instanceof ArrayBuffer) return new Uint8Array(value);
  if (ArrayBuffer.isView(value)) return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
  if (value === undefined || value === null) return NO_BYTES;
  throw new TypeError("data is a string, a Uint8Array or an ArrayBuffer");
}

/** UTF-8 bytes as text. */
export function text(value) {
  return fromUtf8.decode(value);
}

class Writer {
  constructor() {
    this.out = [];
  }

  varint(value) {
    if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`${value} is no unsigned integer`);
    while (value > 0x7f) {
      this.out.push((value % 128) | 0x80);
      value = Math.floor(value / 128);
    }
    this.out.push(value);
  }

  chunk(number, data) {
    this.varint(number * 8 + 2);
    this.varint(data.length);
    for (const byte of data) this.out.push(byte);
  }

  field(number, kind, value, always) {
    if (kind === "text" || kind === "bytes") {
      const data = bytes(value);
      if (data.length > 0 || always) this.chunk(number, data);
    } else if (kind === "u32" || kind === "u64" || kind === "bool") {
      const whole = Number(value);
      if (whole === 0 && !always) return;
      if (kind === "u32" && whole > 0xffffffff) throw new RangeError(`${whole} does not fit into 32 bits`);
      this.varint(number * 8);
      this.varint(whole);
    } else if (kind === "id") {
      if (!/^[0-9a-f]{16}$/i.test(value)) throw new RangeError("a session id has 16 hexadecimal digits");
      if (/^0+$/.test(value) && !always) return;
      this.varint(number * 8 + 1);
      for (let at = 14; at >= 0; at -= 2) this.out.push(parseInt(value.slice(at, at + 2), 16));
    } else if (kind === "map") {
      for (const key of Object.keys(value).sort()) {
        const entry = new Writer();
        entry.field(1, "text", key);
        entry.field(2, "text", value[key]);
        this.chunk(number, entry.out);
      }
    } else {
      this.chunk(number, protobuf(kind, value));
    }
  }
}

function protobuf(schema, fields) {
  const writer = new Writer();
  for (const [number, name, kind] of SCHEMAS[schema]) {
    const value = fields[name];
    if (value === undefined || value === null) continue;
    if (Array.isArray(kind)) for (const one of value) writer.field(number, kind[0], one, true);
    else if (kind.startsWith("oneof:")) writer.field(number, kind.slice(6), value, true);
    else writer.field(number, kind, value, false);
  }
  return Uint8Array.from(writer.out);
}

class Reader {
  constructor(data) {
    this.data = data;
    this.at = 0;
  }

  varint() {
    let value = 0;
    let scale = 1;
    for (let count = 0; count < 10; count++) {
      if (this.at >= this.data.length) throw new KaosError("protocol", "a number is cut off");
      const byte = this.data[this.at++];
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) {
        if (!Number.isSafeInteger(value)) throw new KaosError("protocol", "a number is over 2^53");
        return value;
      }
      scale *= 128;
    }
    throw new KaosError("protocol", "a number has more than ten bytes");
  }

  take(length) {
    if (length > this.data.length - this.at) throw new KaosError("protocol", "a field is cut off");
    this.at += length;
    return this.data.subarray(this.at - length, this.at);
  }
}

// The wire type of each kind; everything that is not listed is a chunk of bytes.
const WIRE_TYPES = { u32: 0, u64: 0, bool: 0, id: 1 };

function fallback(kind) {
  if (Array.isArray(kind)) return [];
  switch (kind) {
    case "u32": case "u64": return 0;
    case "bool": return false;
    case "text": return "";
    case "bytes": return NO_BYTES;
    case "id": return "0000000000000000";
    case "map": return {};
    default: return undefined;             // messages and members of a oneof: not there
  }
}

function value(reader, kind) {
  switch (kind) {
    case "u32": {
      const number = reader.varint();
      if (number > 0xffffffff) throw new KaosError("protocol", "a number does not fit into 32 bits");
      return number;
    }
    case "u64": return reader.varint();
    case "bool": return reader.varint() !== 0;
    case "id": return Array.from(reader.take(8), (byte) => byte.toString(16).padStart(2, "0")).reverse().join("");
    case "text": return text(reader.take(reader.varint()));
    case "bytes": return reader.take(reader.varint()).slice();
    default: return unprotobuf(kind, reader.take(reader.varint()));
  }
}

function unprotobuf(schema, data) {
  const fields = {};
  for (const [, name, kind] of SCHEMAS[schema]) {
    const start = fallback(kind);
    if (start !== undefined) fields[name] = start;
  }
  const reader = new Reader(data);
  while (reader.at < data.length) {
    const tag = reader.varint();
    const [number, wireType] = [Math.floor(tag / 8), tag % 8];
    const row = SCHEMAS[schema].find((row) => row[0] === number);
    let kind = row && (Array.isArray(row[2]) ? row[2][0] : row[2].replace("oneof:", ""));
    if (!row || wireType !== (WIRE_TYPES[kind] ?? 2)) {
      if (row) throw new KaosError("protocol", `field ${row[1]} of ${schema} has the wrong type`);
      if (wireType === 0) reader.varint();
      else if (wireType === 1) reader.take(8);
      else if (wireType === 2) reader.take(reader.varint());
      else if (wireType === 5) reader.take(4);
      else throw new KaosError("protocol", "a field has an unknown type");
    } else if (Array.isArray(row[2])) {
      fields[row[1]].push(value(reader, kind));
    } else if (kind === "map") {
      const entry = new Reader(reader.take(reader.varint()));
      const pair = ["", ""];
      while (entry.at < entry.data.length) {
        const inner = entry.varint();
        if (inner !== 10 && inner !== 18) throw new KaosError("protocol", `an entry of ${row[1]} cannot be read`);
        pair[inner === 10 ? 0 : 1] = text(entry.take(entry.varint()));
      }
      fields[row[1]][pair[0]] = pair[1];
    } else {
      fields[row[1]] = value(reader, kind);
    }
  }
  return fields;
}

/** The codec by itself: for tests, tools, and whoever writes another client. Fields are named as in kaosnet.proto. */
export const wire = {
  /** One whole message, header and payload. */
  encode(name, fields) {
    let payload;
    if (RAW.has(name)) {
      const data = bytes(fields.data);
      if (name === "RoomDataUnreliable" && data.length > UNRELIABLE_MAX) {
        const hint = `at most ${UNRELIABLE_MAX} can be sent unreliably`;
        throw new KaosError("too_long", `${data.length} bytes do not fit into a datagram: ${hint}`);
      }
      payload = new Uint8Array(5 + data.length);
      const view = new DataView(payload.buffer);
      view.setUint16(0, fields.handle, true);
      view.setUint16(2, fields.index, true);
      view.setUint8(4, fields.op);
      payload.set(data, 5);
    } else {
      payload = protobuf(SCHEMA_OF[name] ?? name, fields);
    }
    if (payload.length > PAYLOAD_MAX) {
      throw new KaosError("too_long", `${payload.length} bytes do not fit into one message: at most ${PAYLOAD_MAX}`);
    }
    const message = new Uint8Array(3 + payload.length);
    message.set([OP_OF[name], payload.length & 0xff, payload.length >> 8]);
    message.set(payload, 3);
    return message;
  },

  /** Splits a frame: `[{op, size, payload}]`. Throws `protocol` when it does not hold whole messages. */
  split(frame) {
    const messages = [];
    for (let at = 0; at < frame.length;) {
      const end = at + 3 + (frame[at + 1] | (frame[at + 2] << 8));
      if (at + 3 > frame.length || end > frame.length) throw new KaosError("protocol", "a message is cut off");
      messages.push({ op: frame[at], size: end - at, payload: frame.subarray(at + 3, end) });
      at = end;
    }
    return messages;
  },

  /** Reads one payload that came from `side` ("client" or "server"): `{name, fields}`; name is null when unknown. */
  decode(side, op, payload) {
    const name = OPS[op]?.[side] ?? null;
    if (name === null) return { name, fields: {} };
    if (!RAW.has(name)) return { name, fields: unprotobuf(SCHEMA_OF[name] ?? name, payload) };
    if (payload.length < 5) throw new KaosError("protocol", "room data is shorter than its header");
    const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
    const fields = { handle: view.getUint16(0, true), index: view.getUint16(2, true), op: payload[4] };
    return { name, fields: { ...fields, data: payload.slice(5) } };
  },

  /** The channel that counts this opcode for resume: "control", "data" or null. */
  counted(op) {
    return OPS[op]?.counted ?? null;
  },
};

// ---- events ---------------------------------------------------------------------------------------------------------

class Events {
  #handlers = new Map();

  /** Calls `handler` for each event of this type ("*": of all types); the returned function stops that. */
  on(type, handler) {
    const list = this.#handlers.get(type) ?? [];
    this.#handlers.set(type, [...list, handler]);
    return () => this.#handlers.set(type, this.#handlers.get(type).filter((other) => other !== handler));
  }

  emit(event) {
    for (const type of [event.type, "*"]) {
      for (const handler of this.#handlers.get(type) ?? []) {
        // A handler that throws must not stop the others, nor the session: it is told to the console and no further.
        try {
          handler(event);
        } catch (error) {
          globalThis.console?.error(error);
        }
      }
    }
  }

  listens(type) {
    return (this.#handlers.get(type)?.length ?? 0) > 0;
  }
}

function presence(fields) {
  return {
    sessionId: fields.session_id,
    userId: fields.user_id,
    username: fields.username,
    index: fields.index,
    connected: fields.connected,
    reason: fields.reason,
  };
}

function readLabel(label) {
  if (label.startsWith("{")) {
    try {
      return JSON.parse(label);
    } catch {
      // A label that only looks like an object is text.
    }
  }
  return label;
}

function asText(json) {
  return json === undefined ? "" : typeof json === "string" ? json : JSON.stringify(json);
}

// How many slips of the finger lie between two words; two letters that changed places are one slip.
function slips(a, b) {
  const rows = [Array.from({ length: b.length + 1 }, (_, at) => at)];
  for (let i = 1; i <= a.length; i++) {
    rows.push([i]);
    for (let j = 1; j <= b.length; j++) {
      const cost = a[i - 1] === b[j - 1] ? 0 : 1;
      let best = Math.min(rows[i - 1][j] + 1, rows[i][j - 1] + 1, rows[i - 1][j - 1] + cost);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) best = Math.min(best, rows[i - 2][j - 2] + 1);
      rows[i].push(best);
    }
  }
  return rows[a.length][b.length];
}

// With the nearest name, where one is near: one slip in a short name, three in a long one. Otherwise with all of them.
function noSuchEvent(event, names) {
  const most = Math.min(3, Math.max(1, Math.floor(event.length / 4)));
  const near = names.map((name) => [slips(event, name), name]).sort(([a], [b]) => a - b)[0];
  const hint = !near ? "; it has none" : near[0] <= most ? `. Did you mean \`${near[1]}\`?` : `; it has ${names.join(", ")}`;
  return `the server has no event \`${event}\`${hint}`;
}

// ---- a room -----------------------------------------------------------------------------------------------------------

/**
 * A room that this session has joined. Its events, for `on` and for `for await`:
 *   State    everything about the room is known anew: on joining, and when reliable data was lost (`lost`)
 *   Joined, Left, Changed   `presences`; Changed: `connected` is another
 *   Data     `op`, `data`, `sender` (a presence, or null: the server), `reliable`, `text()`, `json()`
 *   Label    `label`
 *   Closed   the room is over for this session: `reason` in one word, `code`, `message`
 * An iteration begins with a State, so that nothing is missed by beginning late, and ends after Closed.
 */
export class Room {
  #events = new Events();
  #iterators = new Set();
  #held = [];                              // until the first task after joining, when handlers are there

  constructor(session, state) {
    this.session = session;
    this.handle = state.handle;
    this.id = state.room_id;
    this.index = SERVER;                   // set by RoomJoined
    this.created = false;
    this.closed = null;                    // the Closed event
    this.members = new Map();              // by index
    this.update(state);
  }

  on(type, handler) {
    return this.#events.on(type, handler);
  }

  /** Sends to the match, or in a relayed room to everyone else or to the one member `to`. */
  send(op, data, { reliable = true, to = SERVER } = {}) {
    if (this.closed) throw new KaosError("closed", `room ${this.id} is over: ${this.closed.reason}`);
    if (!Number.isInteger(op) || op < 0 || op > 255) throw new RangeError("op is a number from 0 to 255");
    const name = reliable ? "RoomData" : "RoomDataUnreliable";
    this.session.transmit(wire.encode(name, { handle: this.handle, index: to, op, data: bytes(data) }), name);
  }

  /** Leaves; resolves when the server has answered. The room's last event is Closed with the reason `left`. */
  async leave() {
    await this.session.request("RoomLeave", { room_id: this.id });
    this.close({ code: 0, reason: "left", message: "You left the room." });
  }

  async *[Symbol.asyncIterator]() {
    const iterator = { queue: [this.stateEvent(0)], wake: null, over: false };
    if (this.closed) iterator.queue.push(this.closed);
    this.#iterators.add(iterator);
    try {
      for (;;) {
        while (iterator.queue.length > 0) {
          const event = iterator.queue.shift();
          yield event;
          if (event.type === "Closed") return;
        }
        if (iterator.over) throw new KaosError("slow_reader", `this loop left ${ITERATOR_MAX} events waiting`);
        await new Promise((resolve) => (iterator.wake = resolve));
      }
    } finally {
      this.#iterators.delete(iterator);
    }
  }

  // Below: called by the session.

  stateEvent(lost) {
    return { type: "State", room: this, members: [...this.members.values()], tick: this.tick, lost };
  }

  update(state) {
    this.module = state.module;
    this.label = readLabel(state.label);
    this.tickRate = state.tick_rate;
    this.tick = state.tick;
    this.serverTimeMs = state.server_time_ms;
    this.maxPlayers = state.max_players;
    this.members = new Map(state.presences.map((fields) => [fields.index, presence(fields)]));
  }

  emit(event) {
    if (this.#held) this.#held.push(event);
    else this.#deliver(event);
  }

  release() {
    const held = this.#held ?? [];
    this.#held = null;
    // The first is the State that an iteration begins with anyway.
    held.forEach((event, at) => this.#deliver(event, at > 0));
  }

  #deliver(event, toIterators = true) {
    for (const iterator of toIterators ? this.#iterators : []) {
      if (iterator.queue.length >= ITERATOR_MAX) iterator.over = true;
      else if (!iterator.over) iterator.queue.push(event);
      iterator.wake?.();
      iterator.wake = null;
    }
    this.#events.emit(event);
  }

  event(fields) {
    const list = (presences) => presences.presences.map(presence);
    if (fields.joined) {
      const presences = list(fields.joined);
      for (const one of presences) this.members.set(one.index, one);
      this.emit({ type: "Joined", presences });
    } else if (fields.left) {
      const presences = list(fields.left);
      for (const one of presences) this.members.delete(one.index);
      this.emit({ type: "Left", presences });
    } else if (fields.changed) {
      const presences = list(fields.changed);
      for (const one of presences) this.members.set(one.index, one);
      this.emit({ type: "Changed", presences });
    } else if (fields.label !== undefined) {
      this.label = readLabel(fields.label);
      this.emit({ type: "Label", label: this.label });
    } else if (fields.closed) {
      this.close(fields.closed);
    }
  }

  close({ code, reason, message }) {
    if (this.closed) return;
    this.closed = { type: "Closed", reason: reason || "ended", code, message };
    this.session.rooms.delete(this.handle);
    this.emit(this.closed);
  }
}

// ---- a session --------------------------------------------------------------------------------------------------------

/**
 * A session with a server; `connect` makes one. Its events, for `on`:
 *   Waiting   the connection is lost: `attempt`, `nextMs` until the next attempt (null while paused), `leftMs` of the seat
 *   Resumed   it is back on the same seat: `lost` reliable room messages (0 but after a very long gap), `awayMs`
 *   Ping      a round trip was measured: `rttMs`
 *   Refused   an error that belongs to no request: `error`
 *   Message   every message, for logs: `way` ("in" or "out"), `op`, `name`, `size`, `again` (sent again after a resume)
 *   Closed    the session is over: `reason` in one word, `code`, `message`
 */
export class Session {
  #options;
  #clock;
  #events = new Events();
  #pushes = new Events();                  // of the server's features, by name
  #offered = null;                         // a promise of the names that the server has
  #socket = null;
  #timers = {};
  #resumeToken = NO_BYTES;
  #kept = { control: [], data: [] };
  #sinceAcknowledged = 0;
  #requests = new Map();
  #nextCid = 1;
  #lastHeard = 0;
  #lastHeartbeat = 0;
  #lostAt = 0;
  #attempt = 0;
  #paused = false;
  #ready;                                  // {resolve, reject} of the first connect
  #online = () => this.#paused || this.resume();

  constructor(options) {
    this.#options = options;
    this.#clock = options.clock ?? {
      now: () => performance.now(),
      setTimeout: (run, ms) => setTimeout(run, ms),
      clearTimeout: (timer) => clearTimeout(timer),
      random: Math.random,
    };
    /** "connecting", "connected", "waiting" (lost, coming back) or "closed". */
    this.state = "connecting";
    this.id = "";
    this.userId = "";
    this.username = "";
    this.node = "";
    this.heartbeatMs = 1000;
    /** Silence in milliseconds that counts as a lost connection: 10,000, or two heartbeats and a second if that is longer. */
    this.silenceMs = SILENCE_MS;
    this.seatMs = 30_000;
    /** The last measured round trip in milliseconds, or null. */
    this.rttMs = null;
    /** The server's Unix time minus this machine's, as of the last heartbeat; null when not known. */
    this.serverOffsetMs = null;
    this.sent = { control: 0, data: 0 };
    this.received = { control: 0, data: 0 };
    this.bytesIn = 0;
    this.bytesOut = 0;
    this.messagesIn = 0;
    this.messagesOut = 0;
    this.keptBytes = 0;
    this.resumes = 0;
    this.lost = 0;
    this.closed = null;                    // the Closed event
    this.rooms = new Map();                // by handle
  }

  on(type, handler) {
    return this.#events.on(type, handler);
  }

  /**
   * Calls `handler` with the body of each event of this name that a feature of the server pushes, such as
   * `guestbook.signed`. Resolves to a function that stops that; rejects with `no_such_event`, and the nearest name, when
   * the server has no such event. The server is asked for its names once; one of before that list is believed.
   */
  async listen(event, handler) {
    if (this.state === "closed") throw new KaosError("closed", `the session is over: ${this.closed.reason}`);
    // Before the question: what comes meanwhile is not missed.
    const stop = this.#pushes.on(event, (pushed) => handler(pushed.body));
    this.#offered ??= this.#askForEvents();
    try {
      const names = await this.#offered;
      if (names !== null && !names.includes(event)) throw new KaosError("no_such_event", noSuchEvent(event, names));
    } catch (error) {
      stop();
      throw error;
    }
    return stop;
  }

  // The names of the events that the server can send; null: it is of before it could tell.
  async #askForEvents() {
    try {
      return (await this.call("server.describe")).events.map((offered) => offered.name);
    } catch (error) {
      if (error.name === "unimplemented") return null;
      this.#offered = null;                // asked again the next time
      throw error;
    }
  }

  /** Messages that the server has not acknowledged yet. */
  get keptMessages() {
    return this.#kept.control.length + this.#kept.data.length;
  }

  /** Joins an open room of this module, or makes one. */
  joinOrCreate(module, options = {}) {
    return this.#join({
      module,
      params: asText(options.params),
      metadata: asText(options.metadata),
      label: asText(options.label),
      max_players: options.maxPlayers,
    });
  }

  /** Joins the room with this id. */
  join(roomId, options = {}) {
    return this.#join({ room_id: roomId, metadata: asText(options.metadata) });
  }

  /** Makes a room without joining it; resolves to its id. An empty module: a relayed room without a script. */
  async create(module = "", options = {}) {
    const reply = await this.request("RoomCreate", {
      module,
      params: asText(options.params),
      label: asText(options.label),
      max_players: options.maxPlayers,
    });
    return reply.room_id;
  }

  /** Calls a script's rpc; resolves to its answer's bytes (see `text`). */
  async rpc(id, payload) {
    return (await this.request("Rpc", { id, payload: bytes(payload) })).payload;
  }

  /** Calls any operation of the server or of a plugin, with JSON both ways. */
  async call(op, body) {
    const reply = await this.request("Call", { op, body: body === undefined ? NO_BYTES : bytes(JSON.stringify(body)) });
    return reply.body.length === 0 ? null : JSON.parse(text(reply.body));
  }

  /** Ends the session: the seats are free at once. */
  close() {
    if (this.state === "closed") return;
    if (this.state === "connected") this.#write(wire.encode("SessionEnd", {}), "SessionEnd");
    this.#end({ code: 0, reason: "closed", message: "You ended the session." });
  }

  /** A test aid: cuts the connection without a goodbye and comes back after `forMs`. */
  drop(forMs = 0) {
    this.pause();
    this.#later("resume", forMs, () => this.resume());
  }

  /** Cuts the connection without a goodbye and stays away until `resume`. The seat is given up after `seatMs`. */
  pause() {
    if (this.state === "closed" || this.state === "connecting") return;
    this.#paused = true;
    this.#cancel("resume");
    this.#lose();
  }

  /** Comes back now, instead of at the next attempt. Does nothing while connected. */
  resume() {
    if (this.state !== "waiting") return;
    this.#paused = false;
    this.#cancel("resume");
    if (!this.#socket) {
      this.#attempt = 0;
      this.#reconnect();
    }
  }

  // Below: used by Room and connect.

  open() {
    return new Promise((resolve, reject) => {
      this.#ready = { resolve, reject };
      this.#dial();
    });
  }

  request(name, fields) {
    return new Promise((resolve, reject) => {
      if (this.state === "closed") throw new KaosError("closed", `the session is over: ${this.closed.reason}`);
      const cid = this.#nextCid;
      this.#nextCid = cid === 0xffffffff ? 1 : cid + 1;
      this.transmit(wire.encode(name, { ...fields, cid }), name);
      this.#requests.set(cid, { resolve, reject });
    });
  }

  /** Counts, keeps and writes one message; while there is no connection, it is only kept. */
  transmit(message, name) {
    if (this.state === "closed") throw new KaosError("closed", `the session is over: ${this.closed.reason}`);
    const channel = wire.counted(message[0]);
    if (channel) {
      if (this.keptBytes + message.length > RESEND_MAX) {
        throw new KaosError("keep_full", `${this.keptBytes} bytes wait for the server already: send less, or wait`);
      }
      this.sent[channel] += 1;
      this.keptBytes += message.length;
      this.#kept[channel].push(message);
    } else if (this.state !== "connected" || this.#socket.bufferedAmount > STALE_BYTES) {
      return;                              // unreliable: stale before it could leave
    }
    if (this.state === "connected") this.#write(message, name);
  }

  #join(fields) {
    return this.request("RoomJoin", fields).then((joined) => {
      const room = this.rooms.get(joined.handle);
      if (!room) throw new KaosError("closed", "the room ended while it was joined");
      return room;
    });
  }

  #later(name, ms, run) {
    this.#cancel(name);
    this.#timers[name] = this.#clock.setTimeout(run, ms);
  }

  #cancel(name) {
    this.#clock.clearTimeout(this.#timers[name]);
    delete this.#timers[name];
  }

  #write(message, name, again = false) {
    this.bytesOut += message.length;
    this.messagesOut += 1;
    this.#socket.send(message);
    if (this.#events.listens("Message")) {
      this.#events.emit({ type: "Message", way: "out", op: message[0], name, size: message.length, again });
    }
  }

  #dial() {
    const { url, name, token, client, vars } = this.#options;
    const WebSocket = this.#options.WebSocket ?? globalThis.WebSocket;
    let socket;
    try {
      socket = new WebSocket(url);
    } catch (error) {
      this.#end({ code: 0, reason: "unreachable", message: `${url} cannot be opened: ${error.message}` });
      return;
    }
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    // What an older socket still says is ignored: the server will send it again.
    const mine = (handle) => (event) => {
      if (this.#socket === socket) handle(event);
    };
    socket.onopen = mine(() => {
      const start = { protocol_min: PROTOCOL_MIN, protocol_max: PROTOCOL_MAX, client, vars };
      if (this.id) start.resume = { session_id: this.id, token: this.#resumeToken, received: this.received };
      else if (token !== undefined) start.token = token;
      else start.anonymous = name;
      this.#write(wire.encode("SessionStart", start), "SessionStart");
    });
    socket.onmessage = mine((event) => this.#frame(socket, event.data));
    socket.onclose = mine((event) => this.#lose(event.code));
    socket.onerror = () => {};             // a close follows, and says as much
    this.#later("attempt", ATTEMPT_MS, mine(() => this.#lose()));
  }

  // The connection is lost, or could not be made.
  #lose(code = 0) {
    const socket = this.#socket;
    this.#socket = null;
    this.#cancel("attempt");
    this.#cancel("heartbeat");
    socket?.close();
    if (this.state === "connecting") {
      const why = code === 1006 || code === 0 ? "" : ` (close code ${code})`;
      const message = `${this.#options.url} does not answer${why}: is the server running, and is this page allowed to connect?`;
      this.#end({ code: 0, reason: "unreachable", message });
      return;
    }
    if (this.state === "connected") {
      this.state = "waiting";
      this.#lostAt = this.#clock.now();
      this.#attempt = 0;
    }
    if (this.state === "waiting") this.#plan();
  }

  #plan() {
    const leftMs = this.seatMs - (this.#clock.now() - this.#lostAt);
    // The server may have noticed the loss later than we did, so that the seat is there for longer than we think.
    if (leftMs + this.silenceMs < 0 && !this.#paused) {
      this.#end({ code: 27, reason: "timed_out", message: "The server could not be reached while it kept the seat." });
      return;
    }
    let nextMs = null;
    if (!this.#paused && this.#options.resume === false) {
      this.#end({ code: 0, reason: "lost", message: "The connection was lost, and this client does not resume." });
      return;
    }
    if (!this.#paused) {
      const base = BACKOFF_MS[Math.min(this.#attempt, BACKOFF_MS.length - 1)];
      nextMs = Math.round(base * (0.8 + 0.4 * this.#clock.random()));
      this.#later("resume", nextMs, () => this.#reconnect());
    }
    this.#events.emit({ type: "Waiting", attempt: this.#attempt, nextMs, leftMs: Math.max(0, leftMs) });
  }

  #reconnect() {
    this.#attempt += 1;
    this.#dial();
  }

  #frame(socket, data) {
    this.#lastHeard = this.#clock.now();
    let messages;
    try {
      if (!(data instanceof ArrayBuffer) && !ArrayBuffer.isView(data)) throw new KaosError("protocol", "a text frame");
      const frame = bytes(data);
      this.bytesIn += frame.length;
      messages = wire.split(frame);
      for (const { op, size, payload } of messages) {
        if (this.#socket !== socket) return;
        this.#message(op, size, payload);
      }
    } catch (error) {
      this.#end({ code: 23, reason: "protocol", message: `the server sent what cannot be read: ${error.message}` });
      return;
    }
    // Timers of a page in the background run rarely, messages do not: so they keep the heartbeat too.
    if (this.state !== "connected") return;
    const due = this.#clock.now() - this.#lastHeartbeat >= this.heartbeatMs;
    if (due || this.#sinceAcknowledged >= ACKNOWLEDGE_AFTER) this.#heartbeat();
  }

  #message(op, size, payload) {
    const { name, fields } = wire.decode("server", op, payload);
    this.messagesIn += 1;
    if (this.#events.listens("Message")) {
      this.#events.emit({ type: "Message", way: "in", op, name: name ?? "unknown", size, again: false });
    }
    if (name === null) return;             // of a later version
    const channel = wire.counted(op);
    if (channel) {
      this.received[channel] += 1;
      this.#sinceAcknowledged += size;
    }
    if (this.state !== "connected" && name !== "SessionStarted" && name !== "SessionEnd") {
      throw new KaosError("protocol", `${name} before SessionStarted`);
    }
    switch (name) {
      case "SessionStarted": return this.#started(fields);
      case "SessionEnd":
        // A server that has too much to do just now still holds the seat: rate_limited and busy.
        if (this.state === "waiting" && (fields.code === 8 || fields.code === 14)) return this.#lose();
        return this.#end(fields);
      case "Heartbeat": return this.#echo(fields);
      case "RoomData": case "RoomDataUnreliable": return this.#roomData(fields, name === "RoomData");
      case "RoomState": return this.#roomState(fields);
      case "RoomEvent": return this.rooms.get(fields.handle)?.event(fields);
      case "RoomJoined": {
        const room = this.rooms.get(fields.handle);
        if (room) {
          room.index = fields.index;
          room.created = fields.created;
          this.#clock.setTimeout(() => room.release(), 0);
        }
        return this.#answer(fields);
      }
      case "Event": case "EventUnreliable": return this.#pushed(fields);
      case "RoomError": case "Error": return this.#refused(fields);
      default: return this.#answer(fields);
    }
  }

  #pushed({ name, body }) {
    if (!this.#pushes.listens(name)) return;
    this.#pushes.emit({ type: name, body: body.length === 0 ? null : JSON.parse(text(body)) });
  }

  #answer(fields) {
    const request = this.#requests.get(fields.cid);
    this.#requests.delete(fields.cid);
    request?.resolve(fields);
  }

  #refused({ cid, code, name, message, retry_ms: retryMs }) {
    const error = new KaosError(name || "internal", message, code, retryMs);
    const request = this.#requests.get(cid);
    this.#requests.delete(cid);
    if (request) request.reject(error);
    else this.#events.emit({ type: "Refused", error });
  }

  #started(fields) {
    if (this.state === "connected") throw new KaosError("protocol", "a second SessionStarted");
    this.#cancel("attempt");
    const first = this.state === "connecting";
    this.#resumeToken = fields.resume_token;
    this.id = fields.session_id;
    this.userId = fields.user_id;
    this.username = fields.username;
    this.node = fields.node;
    this.heartbeatMs = Math.min(Math.max(fields.heartbeat_ms || 1000, 50), 30_000);
    this.silenceMs = Math.max(SILENCE_MS, 2 * this.heartbeatMs + 1000);
    this.seatMs = fields.seat_ms;
    this.received = { control: fields.base?.control ?? 0, data: fields.base?.data ?? 0 };
    this.#acknowledged(fields.received);
    this.#sinceAcknowledged = 0;
    this.state = "connected";
    this.#lastHeartbeat = this.#clock.now();
    this.#later("heartbeat", this.heartbeatMs, () => this.#beat());
    for (const message of [...this.#kept.control, ...this.#kept.data]) {
      this.#write(message, OPS[message[0]].client, true);
    }
    // Tells at once how far we are and measures the first round trip.
    this.#heartbeat();
    if (first) {
      globalThis.addEventListener?.("online", this.#online);
      this.#ready.resolve(this);
    } else {
      this.resumes += 1;
      this.lost += fields.lost;
      this.#events.emit({ type: "Resumed", lost: fields.lost, awayMs: this.#clock.now() - this.#lostAt });
    }
  }

  #acknowledged(received) {
    for (const channel of ["control", "data"]) {
      const kept = this.#kept[channel];
      const first = this.sent[channel] - kept.length + 1;
      const done = Math.max(0, Math.min(kept.length, (received?.[channel] ?? 0) - first + 1));
      for (const message of kept.splice(0, done)) this.keptBytes -= message.length;
    }
  }

  #beat() {
    const silentMs = this.#clock.now() - this.#lastHeard;
    // With rare heartbeats it is not their timer that notices a loss, but one within a second of it.
    const nextMs = Math.min(this.heartbeatMs, Math.max(1000, this.silenceMs - silentMs + 1));
    this.#later("heartbeat", nextMs, () => this.#beat());
    if (silentMs > this.silenceMs) this.#lose();
    else if (this.#clock.now() - this.#lastHeartbeat >= this.heartbeatMs / 2) this.#heartbeat();
  }

  #heartbeat() {
    const now = this.#clock.now();
    this.#lastHeartbeat = now;
    this.#sinceAcknowledged = 0;
    const beat = {
      client_time_us: Math.max(1, Math.round(now * 1000)),
      received: this.received,
      rtt_us: this.rttMs === null ? 0 : Math.round(this.rttMs * 1000),
    };
    this.#write(wire.encode("Heartbeat", beat), "Heartbeat");
  }

  #echo(fields) {
    this.#acknowledged(fields.received);
    if (fields.server_time_ms > 0) this.serverOffsetMs = fields.server_time_ms - Date.now();
    if (fields.client_time_us === 0) return;
    this.rttMs = Math.max(0, this.#clock.now() - fields.client_time_us / 1000);
    this.#events.emit({ type: "Ping", rttMs: this.rttMs });
  }

  #roomData({ handle, index, op, data }, reliable) {
    const room = this.rooms.get(handle);
    if (!room) return;                     // it was on its way when the room closed
    const sender = index === SERVER ? null : (room.members.get(index) ?? null);
    room.emit({ type: "Data", op, data, sender, index, reliable, text: () => text(data), json: () => JSON.parse(text(data)) });
  }

  #roomState(fields) {
    let room = this.rooms.get(fields.handle);
    if (room && room.id === fields.room_id) {
      room.update(fields);
    } else {
      room = new Room(this, fields);
      this.rooms.set(fields.handle, room);
    }
    room.emit(room.stateEvent(fields.lost));
  }

  #end({ code, reason, message }) {
    if (this.state === "closed") return;
    const before = this.state;
    this.state = "closed";
    this.closed = { type: "Closed", reason: reason || "ended", code, message };
    for (const name of Object.keys(this.#timers)) this.#cancel(name);
    globalThis.removeEventListener?.("online", this.#online);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
    const error = new KaosError(this.closed.reason, message, code);
    for (const { reject } of this.#requests.values()) reject(error);
    this.#requests.clear();
    for (const room of [...this.rooms.values()]) {
      room.release();
      room.close(this.closed);
    }
    if (before === "connecting") this.#ready.reject(error);
    else this.#events.emit(this.closed);
  }
}

function address(url) {
  const page = globalThis.location?.href;
  // `localhost:7350` is a host and not a scheme; a page over HTTPS may open nothing else.
  const scheme = globalThis.location?.protocol === "https:" ? "https" : "http";
  const whole = url === undefined || /^([a-z][a-z0-9+.-]*:)?\//i.test(url) ? url : `${scheme}://${url}`;
  let full;
  try {
    full = page ? new URL(whole ?? "/", page) : new URL(whole ?? "http://127.0.0.1:7350");
  } catch {
    throw new KaosError("url", `"${url}" is not a server address: it looks like http://127.0.0.1:7350`);
  }
  full.protocol = { "http:": "ws:", "https:": "wss:" }[full.protocol] ?? full.protocol;
  if (full.protocol !== "ws:" && full.protocol !== "wss:") {
    throw new KaosError("url", `"${url}" begins with ${full.protocol}//: this client speaks WebSocket, so give the address of the server's HTTP port, as http://127.0.0.1:7350`);
  }
  if (full.pathname === "/") full.pathname = "/kaos";
  full.hash = "";
  return full.href;
}

/**
 * Connects and starts a session. The address is that of the server's HTTP port (`http://127.0.0.1:7350`, or without the
 * scheme), or of the WebSocket itself (`ws://127.0.0.1:7350/kaos`); without one it is the server that the page came from.
 * Rejects with a KaosError whose name says why: `url`, `unreachable`, `unauthenticated`, `denied`, `client_too_old`, ...
 */
export async function connect(url, options = {}) {
  if (url !== undefined && typeof url !== "string") [url, options] = [url.url, url];
  const name = options.name ?? `guest-${Math.random().toString(36).slice(2, 6)}`;
  const full = address(url);
  if (!(options.WebSocket ?? globalThis.WebSocket)) {
    throw new KaosError("no_websocket", "this JavaScript has no WebSocket: use Node 22 or newer, or give a class such as that of the package `ws` as options.WebSocket");
  }
  const session = new Session({ client: "kaosnet.js", ...options, name, url: full });
  return session.open();
}
