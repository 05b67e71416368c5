// The page that verifies receipts, in a real browser and from a file, on what a house of its own has recorded. Everything it says of changed receipts,
// records and keys is held against `bartizan log check`. Needs `BARTIZAN` and a Chromium (`CHROMIUM`, else /usr/bin/chromium); pictures go to `PICTURES`.

import assert from "node:assert/strict";
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { createHash, generateKeyPairSync, sign } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const require = createRequire(import.meta.url);
const AXE = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const BARTIZAN = process.env.BARTIZAN ?? join(import.meta.dirname, "../../../target/debug/bartizan");
const PAGE = join(import.meta.dirname, "../../../docs/verify-receipt.html");
const PICTURES = process.env.PICTURES;

let checks = 0;
function is(actual, expected, what) { checks += 1; assert.deepEqual(actual, expected, what); }
function ok(value, what) { checks += 1; assert.ok(value, what); }

// The policy of the page names its script and style by what they are; nothing else may run, load or be sent.
const source = readFileSync(PAGE, "utf8");
const policy = source.match(/http-equiv="Content-Security-Policy" content="([^"]*)"/)[1];
const digest = (tag) => `'sha256-${createHash("sha256").update(source.match(new RegExp(`<${tag}>([^]*?)</${tag}>`))[1]).digest("base64")}'`;
is(policy, `default-src 'none'; script-src ${digest("script")}; style-src ${digest("style")}; base-uri 'none'; form-action 'none'`, "the policy");

// --- a house, and a receipt of it --------------------------------------------------------------------------------------------------

const port = () => new Promise((found) => {
  const server = net.createServer().listen(0, "127.0.0.1", () => { const { port } = server.address(); server.close(() => found(port)); });
});
const folder = mkdtempSync(join(tmpdir(), "bartizan-receipt-"));
const [control, data, operations] = [await port(), await port(), await port()];
const environment = { ...process.env, BARTIZAN_DATA__FOLDER: join(folder, "data"), BARTIZAN_LISTENERS__CONTROL: `127.0.0.1:${control}`,
  BARTIZAN_LISTENERS__DATA: `127.0.0.1:${data}`, BARTIZAN_LISTENERS__OPERATIONS: `127.0.0.1:${operations}`, BARTIZAN_CONTROL_URL: `http://127.0.0.1:${control}` };
const command = (...words) => execFileSync(BARTIZAN, words, { env: environment, encoding: "utf8" });
const claim = command("init").match(/btzc_\S+/)[0];
const house = spawn(BARTIZAN, ["serve"], { env: environment, stdio: ["ignore", "inherit", "inherit"] });
process.on("exit", () => house.kill());
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
for (let tries = 0; ; tries += 1) {
  try { await fetch(`http://127.0.0.1:${operations}/healthz`); break; } catch (error) { if (tries > 200) throw error; await sleep(100); }
}
const post = async (path, body) => {
  const headers = { "content-type": "application/json", ...(environment.BARTIZAN_API_KEY && { authorization: `Bearer ${environment.BARTIZAN_API_KEY}` }) };
  const answer = await fetch(`http://127.0.0.1:${control}${path}`, { method: "POST", headers, body: JSON.stringify(body) });
  assert.ok(answer.ok, `${path}: ${await answer.clone().text()}`);
  return answer;
};
environment.BARTIZAN_API_KEY = (await (await post("/api/v1/claim", { claim, name: "root" })).json()).key.text;
const named = [];
for (let n = 0; n < 9; n += 1) named.push(await post("/api/v1/resources", [{ name: `person-${n}`, spec: { kind: "user" } }]));
const decision = named[4].headers.get("bartizan-decision");
let receipt = null;
const entry = join(folder, "entry");
for (let tries = 0; receipt === null; tries += 1) {
  const told = spawnSync(BARTIZAN, ["log", "proof", decision, "--entry", entry], { env: environment, encoding: "utf8" });
  if (told.status === 0) receipt = Buffer.from(told.stdout);
  else if (tries > 50) throw new Error(told.stderr);
  else await sleep(200);
}
const record = readFileSync(entry);
const logs = join(folder, "data/log/default");
const key = readFileSync(join(logs, readdirSync(logs).filter((name) => existsSync(join(logs, name, "key.vkey"))).sort().at(-1), "key.vkey"), "utf8").trim();
house.kill();

// --- a browser without a network ---------------------------------------------------------------------------------------------------

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
const context = await browser.newContext({ viewport: { width: 1100, height: 800 }, offline: true });
const page = await context.newPage();
const complaints = [];
page.on("console", (message) => { if (message.type() === "error") complaints.push(message.text()); });
page.on("pageerror", (error) => complaints.push(String(error)));
await page.goto(pathToFileURL(PAGE).href);

const mime = "application/octet-stream";
async function told() {
  await page.locator("#answer").evaluate((answer) => { answer.textContent = ""; });
  await page.getByRole("button", { name: "Verify" }).click();
  await page.waitForFunction(() => document.getElementById("answer").textContent !== "");
  return page.locator("#answer").innerText();
}
/** Gives everything as files, byte for byte. */
async function fromFiles(given) {
  for (const [name, bytes] of Object.entries({ receipt, record, key: Buffer.from(key), ...given })) {
    await page.locator(`#${name}`).evaluate((field) => { field.value = ""; });
    await page.locator(`#${name}-file`).setInputFiles({ name, mimeType: mime, buffer: Buffer.from(bytes) });
    await page.waitForFunction((name) => document.getElementById(name).value !== "", name);
  }
  return told();
}
const steps = () => page.locator("#steps li").evaluateAll((items) => items.map((item) => item.className));
/** What `bartizan log check` says of the same. */
function theirs({ receipt: r = receipt, record: e = record, key: k = key }) {
  writeFileSync(join(folder, "r"), r);
  writeFileSync(join(folder, "e"), e);
  return spawnSync(BARTIZAN, ["log", "check", join(folder, "r"), join(folder, "e"), "--key", k], { env: environment }).status === 0;
}

async function look(name) {
  await page.evaluate(AXE);
  for (const [place, viewport] of [["desk", { width: 1100, height: 800 }], ["phone", { width: 360, height: 740 }]]) {
    for (const colorScheme of ["light", "dark"]) {
      await page.setViewportSize(viewport);
      await page.emulateMedia({ colorScheme });
      const { violations } = await page.evaluate(() => globalThis.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }));
      is(violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.target).join(" ")}`), [], `axe on ${name}, ${place}, ${colorScheme}`);
      ok(await page.evaluate(() => document.documentElement.scrollWidth <= document.documentElement.clientWidth), `${name} scrolls sideways at the ${place}`);
      if (!PICTURES) continue;
      mkdirSync(PICTURES, { recursive: true });
      await page.screenshot({ path: join(PICTURES, `${name}-${place}-${colorScheme}.png`), fullPage: true });
    }
  }
  await page.setViewportSize({ width: 1100, height: 800 });
}

try {
  await look("receipt-empty");
  const index = Number(receipt.toString().match(/^index (\d+)$/m)[1]);
  const origin = key.split("+")[0];
  ok((await fromFiles({})).startsWith(`Verified: this record is entry ${index} of the `), "a good receipt from files");
  is(await steps(), ["good", "good", "good", "good"], "every step is told");
  ok((await page.locator("#content").innerText()).includes(decision), "the record is shown");
  ok((await page.locator("#answer").innerText()).endsWith(`in ${origin}.`), "with the name of its log");
  ok(theirs({}), "and `log check` agrees");
  await look("receipt-good");

  // As text, with what is copied along.
  await page.reload();
  await page.locator("#receipt").fill(`${receipt}\n\n`);
  await page.locator("#record").fill(`${record}\n`);
  await page.locator("#key").fill(`  ${key}\n`);
  ok((await told()).startsWith("Verified"), "a good receipt as text");

  // Whatever is changed is refused, at the step that finds it, and nothing of the record is shown.
  const flipped = (bytes, at) => { const out = Buffer.from(bytes); out[at] ^= 1; return out; };
  const split = receipt.indexOf("\n\n");
  const lines = receipt.toString().split("\n");
  const hash = lines.findIndex((line, at) => at > 1 && line.length === 44);
  const cases = [
    ["another record", { record: Buffer.from(record.toString().replace(decision, decision.replace(/.$/, (c) => (c === "0" ? "1" : "0")))) }, 4],
    ["a record with a byte more", { record: Buffer.concat([record, Buffer.from("\n")]) }, 4],
    ["another index", { receipt: Buffer.from(lines.map((l) => (l === `index ${index}` ? `index ${index + 1}` : l)).join("\n")) }, 4],
    ["an index with a zero before it", { receipt: Buffer.from(lines.map((l) => (l === `index ${index}` ? `index 0${index}` : l)).join("\n")) }, 2],
    ["a hash less", { receipt: Buffer.from(lines.filter((_, at) => at !== hash).join("\n")) }, 4],
    ["a hash twice", { receipt: Buffer.from(lines.flatMap((l, at) => (at === hash ? [l, l] : [l])).join("\n")) }, 4],
    ["another size", { receipt: Buffer.from(receipt.toString().replace(new RegExp(`(${origin}\\n)(\\d+)`), (_, name, size) => `${name}${Number(size) + 1}`)) }, 3],
    ["a receipt that breaks off", { receipt: receipt.subarray(0, split + 1) }, 2],
    ["no receipt", { receipt: Buffer.from("{}") }, 2],
    ["a key of another name", { key: key.replace("log/default", "log/other") }, 1],
    ["a key that was mistyped", { key: key.slice(0, -3) + (key.at(-3) === "A" ? "B" : "A") + key.slice(-2) }, 1],
    ["no key", { key: "nothing" }, 1],
  ];
  for (const [what, given, found] of cases) {
    ok((await fromFiles(given)).startsWith("Not verified: "), what);
    is(await steps(), [...Array(found - 1).fill("good"), "bad"], `${what} is found at step ${found}`);
    ok(!await page.locator("#content").isVisible(), `${what} shows no record`);
    ok(!theirs(given), `${what}: \`log check\` agrees`);
    if (what === "another record") await look("receipt-bad");
  }
  // Any bit of it: both verifiers say the same.
  for (let at = 0; at < receipt.length; at += 7) {
    const given = { receipt: flipped(receipt, at) };
    is((await fromFiles(given)).startsWith("Verified"), theirs(given), `byte ${at} of the receipt`);
  }
  for (let at = 0; at < record.length; at += 41) ok((await fromFiles({ record: flipped(record, at) })).startsWith("Not verified"), `byte ${at} of the record`);

  // Another house's key that bears the same name has not signed this.
  const vkey = (name, kind, public_) => {
    const bytes = Buffer.concat([Buffer.from([kind]), public_]);
    return `${name}+${createHash("sha256").update(`${name}\n`).update(bytes).digest("hex").slice(0, 8)}+${bytes.toString("base64")}`;
  };
  const pair = generateKeyPairSync("ed25519");
  const raw = Buffer.from(pair.publicKey.export({ format: "jwk" }).x, "base64url");
  const foreign = { key: vkey(origin, 1, raw) };
  ok((await fromFiles(foreign)).includes("has not signed it"), "a foreign key");
  ok(!theirs(foreign), "a foreign key: `log check` agrees");

  // A witness that is demanded must have cosigned this checkpoint.
  const witness = vkey("w.example", 4, raw);
  const id = Buffer.from(witness.split("+")[1], "hex");
  const note = receipt.subarray(split + 2).toString();
  const body = note.slice(0, note.lastIndexOf("\n\n") + 1);
  const cosigned = (time, signed = body) => {
    const stamp = Buffer.alloc(8);
    stamp.writeBigUInt64BE(BigInt(time));
    const signature = sign(null, Buffer.from(`cosignature/v1\ntime ${time}\n${signed}`), pair.privateKey);
    return Buffer.concat([receipt, Buffer.from(`\u2014 w.example ${Buffer.concat([id, stamp, signature]).toString("base64")}\n`)]);
  };
  ok((await fromFiles({ witnesses: witness })).includes("w.example has not"), "a witness that has not cosigned");
  ok((await fromFiles({ witnesses: witness, receipt: cosigned(1_795_161_600) })).startsWith("Verified"), "one that has");
  is((await steps()).length, 5, "and that is a step of its own");
  ok((await page.locator("#steps").innerText()).includes("2026-11-20T08:00:00.000Z"), "with its time");
  for (const [what, bad] of [["of another checkpoint", cosigned(1_795_161_600, `${body}x\n`)], ["at no time", cosigned(0)]]) {
    ok((await fromFiles({ witnesses: witness, receipt: bad })).includes("does not hold"), `a cosignature ${what}`);
  }
  is(complaints, [], "the browser complains about nothing");
  console.log(`the page for receipts: ${checks} checks`);
} finally {
  await browser.close();
  rmSync(folder, { recursive: true, force: true });
}
