// The playground: the arena sample, one player per tab or two side by side, on kaosnet.js.
//
// The address may say: ?name=ada (of the first player), &join=1 (joins at once), &second=1 (a second player too),
// &room=<id> (this room instead of any open arena), &server=http://host:7350, &token=<session token>.
//
// For browser tests: every part of the first player has the id and data-testid `p1-<part>`, of the second `p2-<part>`:
//   p1                    the panel; data-state is idle, connecting, connected, waiting or closed; data-resumes,
//                         data-lost, data-room, data-index are its figures, data-reason why it closed
//   p1-name p1-join p1-leave p1-state p1-error p1-error-reason p1-error-message p1-error-next
//   p1-canvas p1-veil p1-left p1-up p1-down p1-right p1-fire p1-hint
//   p1-ping p1-match-rtt p1-tick-rate p1-tick-nominal p1-kept p1-bytes-in p1-bytes-out p1-rate-in p1-rate-out
//   p1-echo-sent p1-echo-back p1-echo-missing p1-echo-disorder    plain numbers
//   p1-drop-seconds p1-drop p1-resume p1-resume-note
//   p1-room p1-invite p1-members   its <li> have data-name, data-x, data-y, data-alive, data-score, data-away, data-me
//   p1-rpc-text p1-rpc-send p1-rpc-reply p1-log-box p1-log-all p1-log
// and beside them: second (adds or removes the second player), server, players.

import { KaosError, connect, text } from "./kaosnet.js";

const MOVE = 1, FIRE = 2, ECHO = 3, SHOUT = 9;           // what clients of the arena send
const STATE = 1, SHOT = 2, NOTICE = 4;                   // what it sends
const SIZE = 1000;                                       // of the arena
const SPEED = 12;                                        // units per tick, of the 15 that are allowed
const RADIUS = 30;
const ECHO_MS = 200;
const LOG_LINES = 300;

const KEYS = {
  one: { KeyW: "up", KeyA: "left", KeyS: "down", KeyD: "right", Space: "fire",
         ArrowUp: "up", ArrowLeft: "left", ArrowDown: "down", ArrowRight: "right" },
  first: { KeyW: "up", KeyA: "left", KeyS: "down", KeyD: "right", Space: "fire" },
  second: { ArrowUp: "up", ArrowLeft: "left", ArrowDown: "down", ArrowRight: "right", Enter: "fire" },
};
const WAYS = { left: [-1, 0], right: [1, 0], up: [0, -1], down: [0, 1] };

// What a person can do about a reason. An unknown reason gets the last line.
const NEXT = {
  unreachable: "Start it with `kaosnet` (or `cargo run --release`), then join again.",
  unauthenticated: "Anonymous names are allowed from loopback only, unless `session.anonymous` says otherwise. Or open this page with ?token=, from `kaosnet token --user ada`.",
  denied: "The server's settings do not allow this. Its log has the details.",
  refused: "Choose another name and join again.",
  not_found: "That room is gone. Join again for another one.",
  full: "Join again: an arena with a free seat will be found or made.",
  rate_limited: "Wait a moment, then join again.",
  busy: "Wait a moment, then join again.",
  cannot_resume: "The seat was given up after its time. Join again for a new one.",
  timed_out: "Check the network and the server, then join again.",
  url: "The address after ?server= is that of the server's HTTP port: http://127.0.0.1:7350",
  replaced: "The same user is playing somewhere else. Join again to play here.",
  stopping: "Join again when the server is back.",
  slow_reader: "This page could not keep up. Close what keeps it busy and join again.",
  script_error: "The match failed. The server's log names the line of the script.",
  client_too_old: "Reload this page.",
  server_too_old: "Update the server.",
};
const NEXT_OTHER = "Join again. If it happens once more, the server's log has the details.";

const query = new URLSearchParams(location.search);
const players = [];

// ---- small things -----------------------------------------------------------------------------------------------------

const set = (node, value) => {
  if (node.textContent !== value) node.textContent = value;
};
const size = (count) =>
  count < 1000 ? `${count} B` : count < 1e6 ? `${(count / 1e3).toFixed(1)} kB` : `${(count / 1e6).toFixed(2)} MB`;
const ms = (value) => (value === null ? "–" : value < 10 ? `${value.toFixed(1)} ms` : `${Math.round(value)} ms`);

// A colour per name that both pages agree on and both themes can show.
function colour(name) {
  let hash = 7;
  for (const letter of name) hash = (hash * 31 + letter.codePointAt(0)) % 360;
  return `hsl(${(hash * 137) % 360} 68% 52%)`;
}

function guess() {
  const names = ["ada", "bob", "cleo", "dev", "eve", "finn", "gus", "hana", "ivo", "juno"];
  return `${names[Math.floor(Math.random() * names.length)]}-${Math.floor(10 + Math.random() * 90)}`;
}

// ---- one player -------------------------------------------------------------------------------------------------------

class Player {
  session = null;
  room = null;
  held = new Set();                        // ways that are pressed, by key or button
  sent = "0,0";                            // the last movement that was sent
  before = new Map();                      // the arena one state ago, for drawing in between
  now = new Map();
  nowAt = 0;
  gapMs = 33;
  shots = [];
  ticks = [];                              // when the last states came
  rates = [];                              // {at, in, out} of the last seconds
  bulk = null;                             // room data that the log sums up
  echo = { sent: 0, back: 0, disorder: 0, last: 0, at: new Map(), rttMs: null };

  constructor(number) {
    this.number = number;
    const root = document.getElementById("player").content.firstElementChild.cloneNode(true);
    this.root = root;
    this.parts = {};
    const id = `p${number}`;
    for (const node of [root, ...root.querySelectorAll("[data-part]")]) {
      const part = node.dataset.part;
      node.id = part ? `${id}-${part}` : id;
      node.dataset.testid = node.id;
      if (part) this.parts[part] = node;
    }
    root.setAttribute("aria-label", `Player ${number}`);
    this.parts.canvas.setAttribute("aria-label", "The arena, seen from above. The list of players says the same in words.");
    this.parts.canvas.setAttribute("role", "img");
    this.parts.name.value = (number === 1 && query.get("name")) || guess();
    this.parts.resume.disabled = this.parts.drop.disabled = true;
    this.listen();
    this.veil("Join to play.\nAnother tab or a second player makes it a match.");
    document.getElementById("players").append(root);
    this.every = setInterval(() => this.second(), 500);
    this.echoes = setInterval(() => this.sendEcho(), ECHO_MS);
  }

  listen() {
    const { parts } = this;
    parts.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.join();
    });
    parts.leave.addEventListener("click", () => this.leave());
    parts.drop.addEventListener("click", () => {
      const seconds = Number(parts["drop-seconds"].value);
      this.log("note", `the connection is cut, for ${seconds} s`);
      this.session?.drop(seconds * 1000);
    });
    parts.resume.addEventListener("click", () => this.session?.resume());
    parts["rpc-form"].addEventListener("submit", (event) => {
      event.preventDefault();
      this.rpc();
    });
    for (const way of ["left", "right", "up", "down", "fire"]) {
      const button = parts[way];
      button.addEventListener("pointerdown", (event) => {
        button.setPointerCapture(event.pointerId);
        this.press(way, "button");
      });
      for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
        button.addEventListener(end, () => this.release(way, "button"));
      }
      // Space and Enter on a focused button, and assistive technology: one short step, one shot.
      button.addEventListener("click", (event) => {
        if (event.detail !== 0) return;
        this.press(way, "button");
        setTimeout(() => this.release(way, "button"), 150);
      });
      button.addEventListener("contextmenu", (event) => event.preventDefault());
    }
    parts.canvas.addEventListener("pointerdown", (event) => this.aim(event));
  }

  // ---- connecting

  async join() {
    if (this.session && this.session.state !== "closed") return;
    const { parts } = this;
    this.fault(null);
    this.state("connecting", "connecting");
    parts.join.disabled = true;
    try {
      this.session = await connect({
        url: query.get("server") ?? undefined,
        name: parts.name.value.trim(),
        token: query.get("token") ?? undefined,
        client: "playground",
      });
      this.follow(this.session);
      const wanted = this.number === 1 || !players[0]?.room ? query.get("room") : players[0].room.id;
      const room = wanted
        ? await this.session.join(wanted).catch((error) => this.elsewhere(error))
        : await this.session.joinOrCreate("arena");
      this.enter(room);
    } catch (error) {
      this.session?.close();
      this.gone(error.name, error.message);
    }
  }

  // The room that was asked for is full or over: any open arena will do.
  elsewhere(error) {
    if (!["full", "not_found"].includes(error.name)) throw error;
    this.log("note", `${error.message}; another arena is taken`);
    return this.session.joinOrCreate("arena");
  }

  follow(session) {
    const { root } = this;
    Object.assign(this, { bulk: null, rates: [] });
    this.echo = { sent: 0, back: 0, disorder: 0, last: 0, at: new Map(), rttMs: null };
    root.dataset.resumes = root.dataset.lost = "0";
    session.on("Waiting", (event) => {
      this.seatEnds = performance.now() + event.leftMs;
      this.comesBack = event.nextMs;
      this.second();
    });
    session.on("Resumed", (event) => {
      root.dataset.resumes = String(session.resumes);
      root.dataset.lost = String(session.lost);
      this.resumedAt = performance.now();
      const lost = event.lost === 0 ? "nothing reliable was lost" : `${event.lost} room messages were lost, the room was sent anew`;
      const note = `Back after ${(event.awayMs / 1000).toFixed(1)} s on the same seat: ${lost}.`;
      set(this.parts["resume-note"], note);
      this.log("note", note);
      // The arena stops who is away.
      this.sent = "";
      this.move();
      this.second();
    });
    session.on("Refused", ({ error }) => this.log("bad", `refused: ${error.name}: ${error.message}`));
    session.on("Message", (event) => this.message(event));
    session.on("Closed", (event) => this.gone(event.reason, event.message));
    this.log("note", `session ${session.id} as ${session.username} on ${session.node || "the server"}`);
  }

  enter(room) {
    const { parts, root } = this;
    this.room = room;
    this.sent = "0,0";
    parts.join.hidden = true;
    parts.join.disabled = false;
    parts.leave.hidden = false;
    parts.name.value = this.session.username;
    parts.name.readOnly = true;
    root.dataset.room = room.id;
    root.dataset.index = String(room.index);
    const link = new URL(location.pathname, location.href);
    link.searchParams.set("room", room.id);
    if (query.get("server")) link.searchParams.set("server", query.get("server"));
    parts.invite.href = link.href;
    parts.invite.hidden = false;
    set(parts.room, `room ${room.id.slice(0, 8)}, ${room.created ? "made for you" : "was there already"}`);
    set(parts["tick-nominal"], String(room.tickRate));
    this.veil("");
    this.log("note", `joined ${room.module} ${room.id}, seat ${room.index}`);
    room.on("Data", (event) => this.data(event));
    room.on("Joined", ({ presences }) => this.log("note", `${presences.map((p) => p.username).join(", ")} joined`));
    room.on("Left", ({ presences }) =>
      this.log("note", presences.map((p) => `${p.username} left (${p.reason})`).join(", ")));
    room.on("Changed", ({ presences }) =>
      this.log("note", presences.map((p) => `${p.username} ${p.connected ? "is back" : "lost the connection"}`).join(", ")));
    room.on("Closed", (event) => {
      if (this.session?.state === "closed" || event.reason === "left") return;
      this.session.close();
      this.gone(event.reason, event.message);
    });
    this.second();
  }

  async leave() {
    const { session, room } = this;
    this.parts.leave.disabled = true;
    try {
      if (session?.state === "connected" && room && !room.closed) await room.leave();
    } catch (error) {
      this.log("bad", `leaving: ${error.name}: ${error.message}`);
    }
    session?.close();
    this.gone("", "");
  }

  // Back to the start; with a reason when it was not our wish.
  gone(reason, message) {
    const { parts, root } = this;
    if (this.session) this.log(reason ? "bad" : "note", reason ? `closed: ${reason}: ${message}` : "left");
    const own = reason === "" || (reason === "closed" && message.startsWith("You "));
    if (own && root.dataset.state === "idle") return;
    if (own && root.dataset.state === "closed") return;
    this.flush();
    this.room = this.session = null;
    this.held.clear();
    this.before = this.now = new Map();
    this.ticks = [];
    parts.join.hidden = parts.join.disabled = false;
    parts.leave.hidden = true;
    parts.leave.disabled = false;
    parts.name.readOnly = false;
    parts.invite.hidden = true;
    parts.resume.disabled = parts.drop.disabled = true;
    parts.members.replaceChildren();
    for (const part of ["ping", "match-rtt", "tick-rate", "tick-nominal", "kept"]) set(parts[part], "–");
    set(parts.room, "");
    if (own) {
      this.state("idle", "not connected");
      this.veil("You left. Join to play again.");
    } else {
      root.dataset.reason = reason;
      this.state("closed", `closed: ${reason}`);
      this.fault(reason, message);
      this.veil("");
    }
  }

  fault(reason, message = "") {
    const { parts } = this;
    parts.error.hidden = reason === null;
    if (reason === null) return;
    set(parts["error-reason"], reason);
    set(parts["error-message"], message);
    set(parts["error-next"], NEXT[reason] ?? NEXT_OTHER);
  }

  state(state, words) {
    this.root.dataset.state = state;
    set(this.parts.state, words);
  }

  veil(words) {
    set(this.parts.veil, words);
  }

  // ---- playing

  press(way, by) {
    if (way === "fire") this.fire();
    else this.held.add(`${way} ${by}`);
    this.parts[way].setAttribute("aria-pressed", "true");
    this.move();
  }

  release(way, by) {
    this.held.delete(`${way} ${by}`);
    this.parts[way].removeAttribute("aria-pressed");
    this.move();
  }

  releaseAll() {
    for (const way of [...Object.keys(WAYS), "fire"]) this.parts[way].removeAttribute("aria-pressed");
    this.held.clear();
    this.move();
  }

  // Says the movement to the match when it is another than before.
  move() {
    let [x, y] = [0, 0];
    for (const way of new Set([...this.held].map((held) => held.split(" ")[0]))) {
      x += WAYS[way][0];
      y += WAYS[way][1];
    }
    const speed = x !== 0 && y !== 0 ? Math.round(SPEED * Math.SQRT1_2) : SPEED;
    const next = `${x * speed},${y * speed}`;
    if (next === this.sent || !this.room) return;
    if (this.send(MOVE, Int8Array.of(x * speed, y * speed))) this.sent = next;
  }

  // Without a direction the match aims at the nearest player.
  fire(direction) {
    this.send(FIRE, direction === undefined ? new Uint8Array(0) : Uint8Array.of(direction));
  }

  aim(event) {
    const me = this.now.get(this.session?.username ?? "");
    if (!me) return;
    const box = this.parts.canvas.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * SIZE - me.x;
    const y = ((event.clientY - box.top) / box.height) * SIZE - me.y;
    this.fire(Math.round((Math.atan2(y, x) / (2 * Math.PI)) * 256) & 255);
  }

  send(op, data) {
    if (!this.room || this.room.closed) return false;
    try {
      this.room.send(op, data);
      return true;
    } catch (error) {
      if (!(error instanceof KaosError)) throw error;
      this.log("bad", `not sent: ${error.name}: ${error.message}`);
      return false;
    }
  }

  // Numbered echoes through the match: each must come back once, and in order, whatever happens to the connection.
  sendEcho() {
    if (!this.room || this.session.keptBytes > 64 * 1024) return;
    const number = this.echo.sent + 1;
    if (!this.send(ECHO, `echo ${number}`)) return;
    this.echo.sent = number;
    this.echo.at.set(number, performance.now());
  }

  data(event) {
    if (event.op === STATE && event.sender === null) {
      const at = performance.now();
      // What was kept during a gap comes at once, and says nothing of the tick rate.
      if (at - this.resumedAt < 500) this.ticks = [];
      this.ticks.push(at);
      if (this.nowAt) this.gapMs += (Math.min(250, at - this.nowAt) - this.gapMs) * 0.1;
      this.before = this.now;
      this.now = new Map(Object.entries(event.json()));
      this.nowAt = at;
    } else if (event.op === SHOT && event.sender === null) {
      const shot = event.json();
      this.shots.push({ ...shot, at: performance.now() });
      if (shot.killed) this.log("note", `${shot.by} hit ${shot.hit}, who is out for 3 s`);
    } else if (event.op === ECHO) {
      const number = Number(event.text().slice(5));
      const { echo } = this;
      const at = echo.at.get(number);
      if (at === undefined || number < echo.last) echo.disorder += 1;
      if (at !== undefined) {
        echo.back += 1;
        echo.rttMs = performance.now() - at;
        echo.at.delete(number);
      }
      echo.last = Math.max(echo.last, number);
    } else if (event.op === NOTICE) {
      this.log("note", event.text());
    } else if (event.op === SHOUT) {
      this.log("in", `${event.sender?.username ?? event.index} shouts: ${event.text().slice(0, 200)}`);
    }
  }

  async rpc() {
    const { parts } = this;
    const reply = parts["rpc-reply"];
    reply.classList.remove("bad");
    if (!this.session) {
      set(reply, "Join first: an rpc needs a session.");
      return;
    }
    const start = performance.now();
    set(reply, "…");
    try {
      const answer = text(await this.session.rpc("echo", parts["rpc-text"].value));
      set(reply, `“${answer}” in ${ms(performance.now() - start)}`);
    } catch (error) {
      reply.classList.add("bad");
      set(reply, `${error.name}: ${error.message}`);
    }
  }

  // ---- showing

  // Twice a second: figures, state and list of players.
  second() {
    const { session, room, parts, echo } = this;
    const at = performance.now();
    set(parts["echo-sent"], String(echo.sent));
    set(parts["echo-back"], String(echo.back));
    // What is still on its way is not missing: only what a later one has overtaken.
    set(parts["echo-missing"], String([...echo.at.keys()].filter((number) => number < echo.last).length));
    set(parts["echo-disorder"], String(echo.disorder));
    if (!session) return;
    const away = session.state === "waiting";
    parts.drop.disabled = session.state !== "connected" || !room;
    parts.resume.disabled = !away;
    if (away) {
      const left = Math.max(0, Math.ceil((this.seatEnds - at) / 1000));
      this.state("waiting", left > 0 ? `waiting, seat kept ${left} s` : "waiting, seat may be gone");
      this.veil(`The connection is away.\n${left > 0 ? `The seat waits ${left} s more.` : "The server may have given up the seat."}`);
    } else if (session.state === "connected" && room) {
      const fresh = at - (this.resumedAt ?? -1e9) < 4000;
      this.state("connected", fresh ? "resumed" : session.resumes > 0 ? `connected, ${session.resumes} × resumed` : "connected");
      const me = this.now.get(session.username);
      this.veil(me && !me.alive ? "You were hit.\nBack in a moment." : "");
    }
    this.ticks = this.ticks.filter((tick) => at - tick < 2000);
    const span = this.ticks.length > 1 ? this.ticks.at(-1) - this.ticks[0] : 0;
    set(parts["tick-rate"], span > 0 && !away ? (((this.ticks.length - 1) * 1000) / span).toFixed(1) : "–");
    set(parts.ping, away ? "–" : ms(session.rttMs));
    set(parts["match-rtt"], away ? "–" : ms(echo.rttMs));
    set(parts.kept, `${session.keptMessages}`);
    this.rates = [...this.rates.filter((rate) => at - rate.at < 3000), { at, in: session.bytesIn, out: session.bytesOut }];
    const [first, last] = [this.rates[0], this.rates.at(-1)];
    const seconds = (last.at - first.at) / 1000;
    for (const way of ["in", "out"]) {
      set(parts[`bytes-${way}`], size(way === "in" ? session.bytesIn : session.bytesOut));
      set(parts[`rate-${way}`], seconds > 0 ? ` ${size(Math.round((last[way] - first[way]) / seconds))}/s` : "");
    }
    this.members();
    this.flush();
  }

  members() {
    const { session, parts } = this;
    const rows = [...this.now].sort(([a, p], [b, q]) => q.score - p.score || (a < b ? -1 : 1));
    while (parts.members.children.length > rows.length) parts.members.lastElementChild.remove();
    rows.forEach(([name, p], at) => {
      let row = parts.members.children[at];
      if (!row) {
        row = document.createElement("li");
        row.append(document.createElement("i"), document.createElement("b"), document.createElement("span"));
        parts.members.append(row);
      }
      const me = name === session?.username;
      Object.assign(row.dataset, {
        name, x: Math.round(p.x), y: Math.round(p.y), alive: p.alive, score: p.score, away: Boolean(p.away), me,
      });
      row.className = p.away ? "away" : p.alive ? "" : "dead";
      row.style.setProperty("--dot", colour(name));
      set(row.children[1], me ? `${name} (you)` : name);
      const what = p.away ? "away" : p.alive ? `${Math.round(p.x)}, ${Math.round(p.y)}` : "out";
      set(row.children[2], `${what} · ${p.score} ${p.score === 1 ? "hit" : "hits"}`);
    });
  }

  draw(at) {
    const { canvas } = this.parts;
    const box = canvas.clientWidth * (window.devicePixelRatio || 1);
    if (box > 0 && Math.abs(canvas.width - box) > 1) canvas.width = canvas.height = Math.round(box);
    const context = canvas.getContext("2d");
    const scale = canvas.width / SIZE;
    const style = getComputedStyle(this.root);
    const ink = style.getPropertyValue("--ink");
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, SIZE, SIZE);
    context.strokeStyle = style.getPropertyValue("--stage-line");
    context.lineWidth = 2;
    context.beginPath();
    for (let line = 100; line < SIZE; line += 100) {
      context.moveTo(line, 0);
      context.lineTo(line, SIZE);
      context.moveTo(0, line);
      context.lineTo(SIZE, line);
    }
    context.stroke();

    this.shots = this.shots.filter((shot) => at - shot.at < 220);
    for (const shot of this.shots) {
      context.globalAlpha = 1 - (at - shot.at) / 220;
      context.strokeStyle = colour(shot.by);
      context.lineWidth = 7;
      context.beginPath();
      context.moveTo(...shot.from);
      context.lineTo(...shot.to);
      context.stroke();
    }

    // Drawn one state behind, in between the last two: smooth, and never where nobody was.
    const part = Math.min(1, (at - this.nowAt) / this.gapMs);
    context.textAlign = "center";
    context.font = "600 26px system-ui, sans-serif";
    for (const [name, p] of this.now) {
      const old = this.before.get(name) ?? p;
      const jump = Math.abs(p.x - old.x) + Math.abs(p.y - old.y) > 120;
      const x = jump ? p.x : old.x + (p.x - old.x) * part;
      const y = jump ? p.y : old.y + (p.y - old.y) * part;
      context.globalAlpha = p.alive ? (p.away ? 0.4 : 1) : 0.15;
      context.fillStyle = colour(name);
      context.beginPath();
      context.arc(x, y, RADIUS, 0, 2 * Math.PI);
      context.fill();
      if (name === this.session?.username) {
        context.strokeStyle = ink;
        context.lineWidth = 5;
        context.stroke();
      }
      if (p.alive && p.health === 1) {                   // hit once: a hole
        context.fillStyle = style.getPropertyValue("--stage");
        context.beginPath();
        context.arc(x, y, 11, 0, 2 * Math.PI);
        context.fill();
      }
      context.fillStyle = ink;
      const label = p.away ? `${name} (away)` : name;
      const half = context.measureText(label).width / 2 + 8;
      context.fillText(label, Math.max(half, Math.min(SIZE - half, x)), y > 80 ? y - 42 : y + 64);
    }
    context.globalAlpha = 1;
  }

  // ---- the log

  message(event) {
    const bulk = event.name.startsWith("RoomData") || event.name === "Heartbeat";
    if (!this.parts["log-all"].checked && bulk) {
      this.bulk ??= { since: performance.now(), in: 0, inBytes: 0, out: 0, outBytes: 0 };
      this.bulk[event.way] += 1;
      this.bulk[`${event.way}Bytes`] += event.size;
      return;
    }
    const arrow = event.way === "in" ? "←" : "→";
    const again = event.again ? ", again" : "";
    this.log(event.way, `${arrow} ${event.name} 0x${event.op.toString(16).padStart(2, "0")}, ${event.size} B${again}`);
  }

  flush() {
    const { bulk } = this;
    if (!bulk || performance.now() - bulk.since < 2000) return;
    this.bulk = null;
    const line = `← ${bulk.in} (${size(bulk.inBytes)})   → ${bulk.out} (${size(bulk.outBytes)})   room data and heartbeats`;
    this.log("in", line);
  }

  log(kind, line) {
    const list = this.parts.log;
    const row = document.createElement("li");
    row.className = kind;
    row.textContent = `${new Date().toLocaleTimeString([], { hour12: false })}  ${line}`;
    const end = list.scrollHeight - list.scrollTop - list.clientHeight < 30;
    list.append(row);
    while (list.children.length > LOG_LINES) list.firstElementChild.remove();
    if (end) list.scrollTop = list.scrollHeight;
  }

  remove() {
    clearInterval(this.every);
    clearInterval(this.echoes);
    this.session?.close();
    this.root.remove();
  }
}

// ---- the page ---------------------------------------------------------------------------------------------------------

function arrange() {
  const two = players.length === 2;
  document.getElementById("players").classList.toggle("two", two);
  document.getElementById("second").textContent = two ? "Remove second player" : "Add second player";
  const aim = "Click or tap the arena to aim.";
  const hints = two
    ? [`W A S D move, Space fires. ${aim}`, `Arrows move, Enter fires. ${aim}`]
    : [`W A S D or arrows move, Space fires at the nearest. ${aim}`];
  players.forEach((player, at) => {
    player.keys = !two ? KEYS.one : at === 0 ? KEYS.first : KEYS.second;
    set(player.parts.hint, hints[at]);
    set(player.parts["name-label"], two ? `Name of player ${at + 1}` : "Name");
  });
}

function second() {
  if (players.length === 2) players.pop().remove();
  else players.push(new Player(2));
  arrange();
}

// Keys go to the arena, unless they are meant for a field or a button.
function key(event, pressed) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const meant = event.target.closest?.("input, select, textarea, summary, a, [role=log]");
  const button = event.target.closest?.("button");
  for (const player of players) {
    const way = player.keys[event.code];
    if (!way || !player.room || (pressed && meant)) continue;
    if (button && (event.code === "Space" || event.code === "Enter")) continue;
    event.preventDefault();
    if (pressed && !event.repeat) player.press(way, event.code);
    if (!pressed) player.release(way, event.code);
  }
}

async function about() {
  const line = document.getElementById("server");
  const base = query.get("server") ?? location.origin;
  try {
    const answer = await fetch(new URL("/v1/connect", base));
    if (!answer.ok) throw new Error(`it answered ${answer.status}`);
    const { version, node, udp } = await answer.json();
    set(line, `KaosNet ${version} · node ${node} · ${new URL(base).host} · ${udp ? `UDP ${udp.address}` : "UDP closed"}`);
  } catch (error) {
    line.classList.add("bad");
    set(line, `The server at ${base} does not answer (${error.message}). Is it running?`);
  }
}

document.getElementById("second").addEventListener("click", second);
document.addEventListener("keydown", (event) => key(event, true));
document.addEventListener("keyup", (event) => key(event, false));
window.addEventListener("blur", () => players.forEach((player) => player.releaseAll()));
// A closed tab says goodbye, so that its seat is free at once.
window.addEventListener("pagehide", () => players.forEach((player) => player.session?.close()));

players.push(new Player(1));
arrange();
if (query.get("second")) second();
if (query.get("join")) (async () => {
  for (const player of players) await player.join();
})();
about();
requestAnimationFrame(function frame(at) {
  for (const player of players) player.draw(at);
  requestAnimationFrame(frame);
});
