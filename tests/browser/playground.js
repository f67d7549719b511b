// Plays the playground in a real browser, against a real server: two tabs see each other move, a connection that is
// away for five seconds comes back on the same seat without a lost message, and the README's first match is true.
//
//   npm ci && npm test        with a server built before: cargo build --release
//
// From the environment, when the defaults do not fit:
//   KAOSNET     the server's program; default target/release/kaosnet
//   CHROMIUM    the browser; default /usr/bin/chromium
// Screenshots go to target/browser. The exit code is 0 when everything held.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { chromium } from "playwright-core";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const TARGET = process.env.CARGO_TARGET_DIR ?? path.join(ROOT, "target");
const SERVER = process.env.KAOSNET ?? path.join(TARGET, "release", "kaosnet");
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const PICTURES = path.join(TARGET, "browser");

const AWAY_S = 5;
const SEAT_MS = 30_000;

// ---- the server -------------------------------------------------------------------------------------------------------

// Starts the server on free ports and waits until it says where it is.
async function serve(data, scripts) {
  assert.ok(existsSync(SERVER), `${SERVER} is not there: build it with \`cargo build --release\``);
  const free = "127.0.0.1:0";
  const child = spawn(
    SERVER,
    ["serve", "--http.address", free, "--udp.address", free, "--data", data, "--scripts", scripts],
    { cwd: ROOT, stdio: ["ignore", "pipe", "pipe"] },
  );
  const server = { child, said: "", exit: new Promise((resolve) => child.once("exit", (code, signal) => resolve(code ?? signal))) };
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (bytes) => (server.said += bytes));
  const end = Date.now() + 10_000;
  while (!/^ready/m.test(server.said)) {
    if (child.exitCode !== null || Date.now() > end) {
      child.kill("SIGKILL");
      throw new Error(`the server did not start:\n${server.said}`);
    }
    await pause(20);
  }
  const [, url] = server.said.match(/(http:\/\/127\.0\.0\.1:\d+\/)/) ?? [];
  assert.ok(url, `the server does not say where its page is:\n${server.said}`);
  return { ...server, url };
}

// ---- what is on a page ------------------------------------------------------------------------------------------------

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// Asks until the answer is true; says what was wanted and what was there when it never is.
async function until(what, ask, seconds = 10) {
  const end = Date.now() + seconds * 1000;
  let last;
  while (Date.now() < end) {
    last = await ask();
    if (last === true) return;
    await pause(50);
  }
  throw new Error(`${what}: not within ${seconds} s; last seen: ${JSON.stringify(last)}`);
}

const data = (page, id = "p1") => page.locator(`#${id}`).evaluate((node) => ({ ...node.dataset }));
const number = async (page, part) => Number(await page.locator(`#p1-${part}`).textContent());
const log = (page) => page.locator("#p1-log").innerText();

// A player as this page's list shows it; undefined when it does not.
async function player(page, name) {
  const rows = await page.locator("#p1-members li").evaluateAll((nodes) => nodes.map((node) => ({ ...node.dataset })));
  const row = rows.find((row) => row.name === name);
  return row && { x: Number(row.x), y: Number(row.y), away: row.away === "true", score: Number(row.score) };
}

async function echoes(page) {
  const [sent, back, missing, disorder] =
    await Promise.all(["echo-sent", "echo-back", "echo-missing", "echo-disorder"].map((part) => number(page, part)));
  return { sent, back, missing, disorder };
}

async function hold(page, key, ms) {
  await page.keyboard.down(key);
  await pause(ms);
  await page.keyboard.up(key);
}

// Moves a player on its own page until the other page has seen it far from where it was.
async function moves(mover, watcher, name, key, axis) {
  await until(`${name} is in the other tab`, async () => (await player(watcher, name)) !== undefined);
  const before = await player(watcher, name);
  await hold(mover, key, 700);
  await until(`the other tab sees ${name} move along ${axis}`, async () => {
    const now = await player(watcher, name);
    return Math.abs(now[axis] - before[axis]) > 100 || { before, now };
  });
  // And both tabs agree on where that was, once it stands still.
  await until(`both tabs have ${name} in one place`, async () => {
    const [here, there] = [await player(mover, name), await player(watcher, name)];
    return (here.x === there.x && here.y === there.y) || { here, there };
  });
}

// ---- the test ---------------------------------------------------------------------------------------------------------

const started = performance.now();
function step(text) {
  console.log(`${((performance.now() - started) / 1000).toFixed(1).padStart(6)} s  ${text}`);
}

async function tab(context, url, faults) {
  const page = await context.newPage();
  page.on("pageerror", (error) => faults.push(`${error}`));
  page.on("console", (message) => message.type() === "error" && faults.push(message.text()));
  await page.goto(url);
  return page;
}

async function joined(page) {
  await until("the player is connected", async () => (await data(page)).state === "connected" || data(page));
}

async function play(context, server) {
  const faults = [];
  const ada = await tab(context, `${server.url}?name=ada&join=1`, faults);
  await joined(ada);
  const bob = await tab(context, `${server.url}?name=bob&join=1`, faults);
  await joined(bob);
  const seat = await data(ada);
  assert.equal((await data(bob)).room, seat.room, "two tabs that join meet in one arena");
  step(`two tabs joined the arena ${seat.room}`);

  await moves(ada, bob, "ada", "ArrowLeft", "x");
  await moves(bob, ada, "bob", "ArrowUp", "y");
  step("each saw the other move");

  await until("echoes come back", async () => (await echoes(ada)).back >= 5 || echoes(ada));
  await ada.locator("#p1-rpc-send").click();
  await until("the rpc is answered", async () => /hello/.test(await ada.locator("#p1-rpc-reply").textContent()));
  await ada.screenshot({ path: path.join(PICTURES, "ada-plays.png") });
  await bob.screenshot({ path: path.join(PICTURES, "bob-plays.png") });
  step("echoes and an rpc came back");

  const before = await echoes(ada);
  await ada.locator("#p1-drop-seconds").selectOption(String(AWAY_S));
  await ada.locator("#p1-drop").click();
  const droppedAt = performance.now();
  await until("ada's page says that it waits", async () => (await data(ada)).state === "waiting" || data(ada), 3);
  await until("bob sees that ada is away", async () => (await player(bob, "ada"))?.away === true, 4);
  await moves(bob, bob, "bob", "ArrowDown", "y");
  await ada.screenshot({ path: path.join(PICTURES, "ada-away.png") });
  await bob.screenshot({ path: path.join(PICTURES, "bob-alone.png") });
  step("ada's connection is cut, bob plays on");

  await until("ada is back", async () => {
    const now = await data(ada);
    return (now.state === "connected" && now.resumes === "1") || now;
  }, SEAT_MS / 1000);
  const awayMs = performance.now() - droppedAt;
  assert.ok(awayMs > (AWAY_S - 0.5) * 1000, `away for ${Math.round(awayMs)} ms only`);
  const back = await data(ada);
  assert.deepEqual([back.room, back.index, back.lost], [seat.room, seat.index, "0"], "the same seat, nothing lost");
  const sent = (await echoes(ada)).sent;
  assert.ok(sent - before.sent >= AWAY_S * 3, `${sent - before.sent} echoes were sent while away`);
  await until("every echo comes back once and in order", async () => {
    const now = await echoes(ada);
    return (now.back >= sent && now.missing === 0 && now.disorder === 0) || now;
  });
  await until("bob sees that ada is back", async () => (await player(bob, "ada"))?.away === false);
  await until("ada sees where bob went meanwhile", async () => {
    const [here, there] = [await player(ada, "bob"), await player(bob, "bob")];
    return (here.x === there.x && here.y === there.y) || { here, there };
  });
  await until("ada's own page shows her back", async () => (await player(ada, "ada"))?.away === false);
  assert.doesNotMatch(await log(bob), /ada left/, "nobody was told that ada left");
  const after = await echoes(ada);
  await ada.screenshot({ path: path.join(PICTURES, "ada-back.png") });
  step(`ada was away for ${(awayMs / 1000).toFixed(1)} s: same seat, ${after.back} of ${after.sent} echoes back, ` +
    `${after.missing} missing, ${after.disorder} out of order`);

  await moves(ada, bob, "ada", "ArrowRight", "x");
  await ada.locator("#p1-leave").click();
  await until("ada is gone from bob's list", async () => (await player(bob, "ada")) === undefined);
  step("ada moved on, then left; bob saw both");

  const both = await tab(context, `${server.url}?name=cleo&second=1&join=1`, faults);
  for (const id of ["p1", "p2"]) {
    await until(`${id} is connected`, async () => (await data(both, id)).state === "connected" || data(both, id));
  }
  assert.equal((await data(both, "p1")).room, (await data(both, "p2")).room, "side by side means in one room");
  await pause(500);
  await both.screenshot({ path: path.join(PICTURES, "side-by-side.png"), fullPage: true });
  step("two players side by side in one tab");

  assert.deepEqual(faults, [], "no page reports an error");
  return bob;
}

// What the README says under "Your first match in a minute": a script to save, and what to type into the console.
async function firstMatch() {
  const readme = await readFile(path.join(ROOT, "README.md"), "utf8");
  const [, rest] = readme.split("\n## Your first match");
  const block = (language) => rest.match(new RegExp(`\`\`\`${language}\n([^]*?)\`\`\``))?.[1];
  const [lua, js] = [block("lua"), block("js")];
  assert.ok(lua && js, "README.md has a first match in Lua and something to type");
  return { lua, js };
}

// Types the README's lines into the console of two tabs.
async function typeReadme(context, server, js) {
  const said = [];
  for (const name of ["ada", "bob"]) {
    const page = await tab(context, server.url, []);
    page.on("console", (message) => said.push(`${name}'s console: ${message.text()}`));
    await page.evaluate(`(async () => { ${js.replace('"ada"', `"${name}"`)} })()`);
    await until(`the match answers ${name}`, async () => said.some((line) => line.includes(`${name} made it`)) || said);
  }
  await until("both count together", async () => said.includes("ada's console: bob made it 2") || said);
}

async function main() {
  await mkdir(PICTURES, { recursive: true });
  const folder = await mkdtemp(path.join(tmpdir(), "kaosnet-browser-"));
  let server, context;
  try {
    const readme = await firstMatch();
    const scripts = path.join(folder, "scripts");
    await cp(path.join(ROOT, "scripts"), scripts, { recursive: true });
    await writeFile(path.join(scripts, "matches", "counter.lua"), readme.lua);
    server = await serve(path.join(folder, "data"), scripts);
    step(`the server is at ${server.url}`);
    context = await chromium.launchPersistentContext(path.join(folder, "profile"), {
      executablePath: CHROMIUM,
      viewport: { width: 1200, height: 900 },
      args: [
        "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--no-proxy-server",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
      ],
    });
    const bob = await play(context, server);
    await typeReadme(context, server, readme.js);
    step("the README's first match counts in two consoles");

    server.child.kill("SIGTERM");
    await until("the page says that the server stops", async () => {
      const now = await data(bob);
      return (now.state === "closed" && now.reason === "stopping") || now;
    });
    assert.equal(await Promise.race([server.exit, pause(10_000)]), 0, `the server ends well\n${server.said}`);
    step(`the server stopped and told its players why; screenshots are in ${path.relative(process.cwd(), PICTURES)}`);
  } catch (error) {
    for (const [at, page] of (context?.pages() ?? []).entries()) {
      await page.screenshot({ path: path.join(PICTURES, `failed-${at}.png`) }).catch(() => {});
    }
    if (server) console.error(`the server said:\n${server.said}`);
    throw error;
  } finally {
    await context?.close().catch(() => {});
    if (server && server.child.exitCode === null) server.child.kill("SIGKILL");
    await rm(folder, { recursive: true, force: true, maxRetries: 5 });
  }
}

await main();
