// People in a real browser: Chromium with virtual authenticators, against a house of its own. What a person sees is also looked
// at by axe. Needs `BARTIZAN` (the program) and a Chromium (`CHROMIUM`, else /usr/bin/chromium); pictures go to `PICTURES`.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { createHash, createHmac, randomBytes } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const require = createRequire(import.meta.url);
const AXE = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const BARTIZAN = process.env.BARTIZAN ?? join(import.meta.dirname, "../../../target/debug/bartizan");
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const PICTURES = process.env.PICTURES;
const PHRASE = "mistvogel quelle abendbrot";

let checks = 0;
const done = [];
function scene(name) { done.push(name); console.log(`  ${name}`); }
function is(actual, expected, what) { checks += 1; assert.deepEqual(actual, expected, what); }
function ok(value, what) { checks += 1; assert.ok(value, what); }

const port = () => new Promise((found) => {
  const server = net.createServer().listen(0, "127.0.0.1", () => { const { port } = server.address(); server.close(() => found(port)); });
});

// --- a house ---------------------------------------------------------------------------------------------------------------

const folder = mkdtempSync(join(tmpdir(), "bartizan-login-"));
const [control, data, operations, back, elsewhere] = [await port(), await port(), await port(), await port(), await port()];
const issuer = `http://localhost:${control}`;
const environment = { ...process.env, BARTIZAN_DATA__FOLDER: join(folder, "data"), BARTIZAN_AUTHORITY__ISSUER: issuer,
  BARTIZAN_LISTENERS__CONTROL: `127.0.0.1:${control}`, BARTIZAN_LISTENERS__DATA: `127.0.0.1:${data}`,
  BARTIZAN_LISTENERS__OPERATIONS: `127.0.0.1:${operations}`, BARTIZAN_CONTROL_URL: `http://127.0.0.1:${control}` };
const command = (...words) => execFileSync(BARTIZAN, words, { env: environment, encoding: "utf8" });
const claim = command("init").match(/btzc_\S+/)[0];
const house = spawn(BARTIZAN, ["serve"], { env: environment, stdio: ["ignore", "inherit", "inherit"] });
process.on("exit", () => house.kill());
const call = async (method, path, body) => {
  const headers = { "content-type": "application/json", ...(environment.BARTIZAN_API_KEY && { authorization: `Bearer ${environment.BARTIZAN_API_KEY}` }) };
  const answer = await fetch(`http://127.0.0.1:${control}${path}`, { method, headers, body: body && JSON.stringify(body) });
  const value = await answer.json();
  assert.ok(answer.ok, `${path}: ${JSON.stringify(value)}`);
  return value;
};
for (let tries = 0; ; tries += 1) {
  try { await fetch(`http://127.0.0.1:${operations}/healthz`); break; } catch (error) { if (tries > 200) throw error; await new Promise((r) => setTimeout(r, 100)); }
}
const claimed = await call("POST", "/api/v1/claim", { claim, name: "root" });
environment.BARTIZAN_API_KEY = claimed.key.text;
const SECRET = randomBytes(32).toString("hex");
await call("POST", "/api/v1/resources", [
  { name: "alice", spec: { kind: "user", roles: ["model-user"] } },
  { name: "nowhere", spec: { kind: "upstream", base_url: "http://127.0.0.1:9", allow_private: true } },
  ...["development", "production"].map((name) => ({ name, spec: { kind: "environment" } })),
  ...[["assistant", "development"], ["oracle", "production"]].map(([name, environment]) => ({ name, spec: { kind: "model", upstream: "nowhere", dialects: ["openai.chat"], environment } })),
  { name: "helper", spec: { kind: "agent", owner: "alice", purpose: "reports", roles: ["model-user"], conditions: { environments: ["development"], alone: false } } },
  { name: "reports", spec: { kind: "client", display: "Reports", redirect_uris: [`http://127.0.0.1:${back}/back`], principal: { kind: "agent", name: "helper" },
    grant_types: ["authorization_code", "urn:ietf:params:oauth:grant-type:token-exchange"], scopes: ["grant:give", "model:invoke"],
    authentication: { method: "client_secret", digests: [createHash("sha256").update(SECRET).digest("hex")] } } },
  { name: "notes", spec: { kind: "client", display: "Notes <script>alert(1)</script>", redirect_uris: [`http://127.0.0.1:${back}/back`],
    grant_types: ["authorization_code"], scopes: ["openid", "model:invoke"] } },
  { name: "terminal", spec: { kind: "client", display: "Terminal", grant_types: ["urn:ietf:params:oauth:grant-type:device_code"], scopes: ["model:invoke"] } },
]);

// --- a browser -------------------------------------------------------------------------------------------------------------

const browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox"] });

async function person(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1100, height: 800 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(15_000);
  const complaints = [];
  page.on("console", (message) => { if (message.type() === "error") complaints.push(`${message.text()} ${message.location().url}`); });
  page.on("pageerror", (error) => complaints.push(String(error)));
  const cdp = await context.newCDPSession(page);
  await cdp.send("WebAuthn.enable");
  const device = async (more = {}) => (await cdp.send("WebAuthn.addVirtualAuthenticator", { options: { protocol: "ctap2", ctap2Version: "ctap2_1",
    transport: "internal", hasResidentKey: true, hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true, ...more } })).authenticatorId;
  return { context, page, cdp, device, complaints };
}

async function look(page, name) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }));
  is(violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.target).join(" ")}`), [], `axe on ${name}`);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);
  ok(!wide, `${name} scrolls sideways`);
  if (!PICTURES) return;
  mkdirSync(PICTURES, { recursive: true });
  const size = page.viewportSize();
  for (const [place, viewport] of [["desk", { width: 1100, height: 800 }], ["phone", { width: 360, height: 740 }]]) {
    for (const colorScheme of ["light", "dark"]) {
      await page.setViewportSize(viewport);
      await page.emulateMedia({ colorScheme });
      const wide = await page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);
      ok(!wide, `${name} scrolls sideways at the ${place}`);
      const { violations } = await page.evaluate(() => globalThis.axe.run(document, { runOnly: { type: "rule", values: ["color-contrast"] } }));
      is(violations.map((v) => v.nodes.map((n) => n.html)), [], `contrast on ${name}, ${place}, ${colorScheme}`);
      await page.screenshot({ path: join(PICTURES, `${name}-${place}-${colorScheme}.png`), fullPage: true });
    }
  }
  await page.setViewportSize(size);
  await page.emulateMedia({ colorScheme: "light" });
}

const heading = (page) => page.locator("h1").innerText();
const cookie = async (context, name) => (await context.cookies(issuer)).find((c) => c.name === name);

function code(base32, when = Date.now()) {
  const bits = [...base32].map((c) => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".indexOf(c).toString(2).padStart(5, "0")).join("");
  const key = Buffer.from(bits.match(/.{8}/g).map((b) => Number.parseInt(b, 2)));
  const step = Buffer.alloc(8);
  step.writeBigUInt64BE(BigInt(Math.floor(when / 30_000)));
  const tag = createHmac("sha1", key).update(step).digest();
  return String((tag.readUInt32BE(tag[19] & 15) & 0x7fffffff) % 1_000_000).padStart(6, "0");
}

try {
  const alice = await person();
  const { page } = alice;
  await alice.device();

  scene("a person without a session is sent to the login, whose page is guarded");
  const answer = await page.goto(`${issuer}/account`);
  ok(page.url().startsWith(`${issuer}/login?continue=%2Faccount`) || page.url().includes("/login?continue="), page.url());
  const policy = answer.headers()["content-security-policy"];
  ok(policy.includes("default-src 'none'") && policy.includes("frame-ancestors 'none'") && !policy.includes("unsafe"), policy);
  await look(page, "login");

  scene("an invitation leads to a passkey, and the passkey to a session");
  const link = command("invite", "alice").match(/http\S+/)[0];
  await page.goto(link);
  await look(page, "invited");
  await page.getByRole("button", { name: "Begin" }).click();
  await page.waitForURL("**/account");
  await look(page, "enrol");
  await page.getByLabel("New passkey, called").fill("Laptop");
  await page.getByRole("button", { name: "Add a passkey" }).click();
  await page.waitForURL("**/account?said=passkey");
  ok((await page.innerText("main")).includes("Laptop"));
  await page.getByRole("button", { name: "Done: sign in" }).click();
  await page.waitForURL("**/login");
  // By the keyboard alone.
  await page.keyboard.press("Tab");
  await page.keyboard.press("Tab");
  is(await page.evaluate(() => document.activeElement.innerText), "Sign in with a passkey");
  await page.keyboard.press("Enter");
  await page.waitForURL("**/account");
  is(await heading(page), "alice");
  const session = await cookie(alice.context, "__Host-bartizan-session");
  ok(session.secure && session.httpOnly && session.sameSite === "Lax" && session.path === "/");
  ok((await page.innerText("main")).includes("Chrome on Linux"));
  await look(page, "account");

  scene("the link is good once");
  const late = await page.goto(link);
  is(late.status(), 401);
  await look(page, "error");

  scene("codes from an app are set up beside a password, and both are asked for");
  await page.goto(`${issuer}/account`);
  await page.getByRole("button", { name: "Set up codes from an app" }).click();
  const secret = await page.locator("dd code").innerText();
  await look(page, "totp");
  await page.getByLabel("Code", { exact: true }).fill(code(secret));
  await page.getByRole("button", { name: "Use this app" }).click();
  await page.waitForURL("**/account?said=totp");
  await page.getByLabel("New password").fill("password1");
  await page.getByRole("button", { name: "Set the password" }).click();
  ok((await page.getByRole("alert").first().innerText()).includes("guessed first"));
  await page.getByLabel("New password").fill(PHRASE);
  await page.getByRole("button", { name: "Set the password" }).click();
  await page.waitForURL("**/account?said=password");

  scene("recovery codes are shown once");
  await page.getByRole("button", { name: "Make new recovery codes" }).click();
  const codes = await page.locator("ol code").allInnerTexts();
  is(codes.length, 10);
  await look(page, "codes");

  scene("somewhere else: a wrong password says nothing, the right one asks for the code");
  const phone = await person({ viewport: { width: 360, height: 740 } });
  await phone.page.goto(`${issuer}/login`);
  const wrong = [];
  for (const name of ["alice", "nobody"]) {
    await phone.page.getByLabel("Name").fill(name);
    await phone.page.getByLabel("Password").fill("wrong wrong wrong wrong");
    await phone.page.getByRole("button", { name: "Sign in with a password" }).click();
    const alert = phone.page.locator("main > p.error");
    wrong.push([await alert.innerText(), (await phone.page.content()).replaceAll(/value="[^"]*"|data-token="[^"]*"/g, "").length]);
  }
  is(wrong[0], wrong[1]);
  await look(phone.page, "failed");
  await phone.page.getByLabel("Name").fill("alice");
  await phone.page.getByLabel("Password").fill(PHRASE);
  await phone.page.getByRole("button", { name: "Sign in with a password" }).click();
  await phone.page.getByLabel("Code", { exact: true }).waitFor();
  await look(phone.page, "second");
  // The code of enrolment was used: the next half minute has another.
  await phone.page.getByLabel("Code", { exact: true }).fill(code(secret, Date.now() + 30_000));
  await phone.page.getByRole("button", { name: "Sign in", exact: true }).click();
  await phone.page.waitForURL("**/account");
  await page.goto(`${issuer}/account`);
  ok((await page.innerText("main")).includes("by a code and a password"));

  scene("a recovery waits, is told to whoever is signed in, and is stopped");
  const lost = await person();
  await lost.page.goto(`${issuer}/login/recovery`);
  await look(lost.page, "recovery");
  await lost.page.getByLabel("Name").fill("alice");
  await lost.page.getByLabel("Recovery code").fill(codes[0].toLowerCase());
  await lost.page.getByRole("button", { name: "Recover" }).click();
  ok((await lost.page.getByRole("status").innerText()).includes("it waits until"));
  await page.goto(`${issuer}/account`);
  ok((await page.innerText("main")).includes("Somebody has begun to recover this account"));
  await look(page, "recovering");
  await page.getByRole("button", { name: "Stop the recovery" }).click();
  await page.waitForURL("**/account?said=stopped");

  scene("a program asks, is described as it is, and is answered at its own address");
  const backs = [];
  const program = createServer((request, response) => { backs.push(request.url); response.end("<!doctype html><title>Back</title>back"); }).listen(back, "127.0.0.1");
  const verifier = randomBytes(32).toString("base64url");
  const challenge = createHash("sha256").update(verifier).digest("base64url");
  const ask = new URLSearchParams({ client_id: "notes", response_type: "code", redirect_uri: `http://127.0.0.1:${back}/back`, scope: "openid model:invoke",
    state: "s1", nonce: "n1", code_challenge: challenge, code_challenge_method: "S256" });
  await page.goto(`${issuer}/oauth/authorize?${ask}`);
  is(await heading(page), "Notes <script>alert(1)</script> asks for access");
  ok((await page.innerText("main")).includes("127.0.0.1"), "where the answer goes");
  ok((await page.innerText("main")).includes("Take care"));
  await look(page, "consent");
  await page.getByRole("button", { name: "Refuse" }).click();
  await page.waitForURL(`http://127.0.0.1:${back}/**`);
  const denied = new URL(backs.find((url) => url.startsWith("/back")), issuer).searchParams;
  is([denied.get("error"), denied.get("state"), denied.get("iss")], ["access_denied", "s1", issuer]);
  backs.length = 0;
  await page.goto(`${issuer}/oauth/authorize?${ask}`);
  await page.getByRole("button", { name: "Allow" }).click();
  await page.waitForURL(`http://127.0.0.1:${back}/**`);
  const allowed = new URL(backs.find((url) => url.startsWith("/back")), issuer).searchParams;
  ok(allowed.get("code") && allowed.get("state") === "s1" && allowed.get("iss") === issuer);
  program.close();

  scene("a stronger proof is asked for on the spot, and one is back where one was");
  const up = new URLSearchParams(ask);
  up.set("acr_values", "phr");
  await phone.page.goto(`${issuer}/oauth/authorize?${up}`);
  is(await heading(phone.page), "Prove that it is you");
  await look(phone.page, "step-up");
  is(await phone.page.getByLabel("Name").inputValue(), "alice");

  scene("a device without a browser is allowed by its code");
  const begun = await (await fetch(`${issuer}/oauth/device_authorization`, { method: "POST", body: new URLSearchParams({ client_id: "terminal", scope: "model:invoke" }) })).json();
  await page.goto(begun.verification_uri);
  await look(page, "device");
  await page.getByLabel("Code", { exact: true }).fill("BCDF-GHJK");
  await page.getByRole("button", { name: "Go on" }).click();
  ok(await page.getByRole("alert").innerText());
  await page.getByLabel("Code", { exact: true }).fill(begun.user_code);
  await page.getByRole("button", { name: "Go on" }).click();
  ok((await page.innerText("main")).includes(begun.user_code) && (await page.innerText("main")).includes("Compare the code"));
  await look(page, "device-ask");
  await page.getByRole("button", { name: "Allow" }).click();
  ok((await page.innerText("main")).includes("The device is connected"));
  const fetched = await (await fetch(`${issuer}/oauth/token`, { method: "POST", body: new URLSearchParams({ client_id: "terminal",
    grant_type: "urn:ietf:params:oauth:grant-type:device_code", device_code: begun.device_code }) })).json();
  ok(fetched.access_token, JSON.stringify(fetched));

  scene("the command line logs in by this browser, works by its bound token, and logs out");
  const home = join(folder, "home");
  const handed = join(folder, "handed");
  const browserScript = join(folder, "browser");
  mkdirSync(home);
  writeFileSync(browserScript, `#!/bin/sh\nprintf %s "$1" > ${handed}.new && mv ${handed}.new ${handed}\n`, { mode: 0o755 });
  // Nothing of the administrator's environment: only what the person has.
  const own = { PATH: process.env.PATH, HOME: home, BROWSER: browserScript };
  const terminal = (...words) => {
    const child = spawn(BARTIZAN, words, { env: own, stdio: ["ignore", "pipe", "pipe"] });
    const said = { out: "", err: "" };
    child.stdout.on("data", (text) => { said.out += text; });
    child.stderr.on("data", (text) => { said.err += text; });
    const ended = new Promise((end) => child.once("close", (status) => end({ status, ...said })));
    return { said, ended };
  };
  const until = async (found) => {
    for (let tries = 0; ; tries += 1) {
      const value = found();
      if (value) return value;
      assert.ok(tries < 300, "it never came");
      await new Promise((again) => setTimeout(again, 100));
    }
  };
  const login = terminal("login", "--server", issuer, "--context", "work");
  await page.goto(await until(() => existsSync(handed) && readFileSync(handed, "utf8")));
  is(await heading(page), "Bartizan command line asks for access");
  ok((await page.innerText("main")).includes("Take care"));
  await look(page, "consent-command-line");
  // A tick less is a right less.
  await page.getByLabel(/house:change/).uncheck();
  await page.getByRole("button", { name: "Allow" }).click();
  await page.waitForURL(/^http:\/\/127\.0\.0\.1:\d+\/answer\?/);
  ok((await page.innerText("body")).includes("You can close this page"));
  const in1 = await login.ended;
  is([in1.status, in1.err.includes("error")], [0, false], in1.err);
  const me = JSON.parse((await terminal("whoami", "--json").ended).out);
  is([me.name, me.binding, me.context, me.server], ["alice", "dpop", "work", issuer]);
  is([me.scopes, me.assurance], [["content:read", "house:read", "self:use"], 3]);

  scene("the command line logs in by a code on another device");
  const byCode = terminal("login", "--device", "--server", issuer, "--context", "work");
  await page.goto(await until(() => byCode.said.err.match(/http\S+user_code=\S+/)?.[0]));
  await page.getByRole("button", { name: "Go on" }).click();
  ok((await page.innerText("main")).includes("Bartizan command line"));
  await page.getByRole("button", { name: "Allow" }).click();
  ok((await page.innerText("main")).includes("The device is connected"));
  is((await byCode.ended).status, 0);
  is(JSON.parse((await terminal("whoami", "--json").ended).out).scopes, ["house:read", "self:use"]);
  is((await terminal("logout").ended).status, 0);
  is((await terminal("whoami").ended).status, 4);
  scene("what an agent did is seen, with receipts that hold, and with what was refused it");
  const landed = [];
  const reports = createServer((request, response) => { landed.push(request.url); response.end("<!doctype html><title>Back</title>back"); }).listen(back, "127.0.0.1");
  const token = async (parameters) => {
    const headers = { authorization: `Basic ${Buffer.from(`reports:${SECRET}`).toString("base64")}` };
    const answer = await fetch(`${issuer}/oauth/token`, { method: "POST", headers, body: new URLSearchParams(parameters) });
    const value = await answer.json();
    ok(value.access_token, JSON.stringify(value));
    return value.access_token;
  };
  const logIn = async (scope, resource) => {
    landed.length = 0;
    const asked = new URLSearchParams({ client_id: "reports", response_type: "code", redirect_uri: `http://127.0.0.1:${back}/back`, scope, resource, state: "s2",
      code_challenge: challenge, code_challenge_method: "S256" });
    await page.goto(`${issuer}/oauth/authorize?${asked}`);
    if (page.url().startsWith(issuer)) await page.getByRole("button", { name: "Allow" }).click();
    await page.waitForURL(`http://127.0.0.1:${back}/**`);
    const code = new URL(landed.find((url) => url.startsWith("/back")), issuer).searchParams.get("code");
    return token({ grant_type: "authorization_code", code, redirect_uri: `http://127.0.0.1:${back}/back`, code_verifier: verifier });
  };
  const door = (await (await fetch(`http://127.0.0.1:${data}/.well-known/oauth-protected-resource`)).json()).resource;
  const hers = await logIn("grant:give", issuer);
  const given = await fetch(`${issuer}/api/v1/grants`, { method: "POST", headers: { authorization: `Bearer ${hers}`, "content-type": "application/json" },
    body: JSON.stringify({ agent: "helper", scopes: ["model:invoke"], resources: [door], life_s: 3_600 }) });
  is(given.status, 200, await given.text());
  const subject = await logIn("model:invoke", door);
  const acting = await token({ grant_type: "urn:ietf:params:oauth:grant-type:token-exchange", subject_token: subject,
    subject_token_type: "urn:ietf:params:oauth:token-type:access_token" });
  reports.close();
  const statuses = [];
  for (const model of ["assistant", "oracle"]) {
    const answer = await fetch(`http://127.0.0.1:${data}/v1/chat/completions`, { method: "POST", headers: { authorization: `Bearer ${acting}`, "content-type": "application/json" },
      body: JSON.stringify({ model, messages: [{ role: "user", content: "hello" }] }) });
    statuses.push(answer.status);
  }
  is(statuses, [502, 404], "sent to nowhere; and, outside of what its sponsor allows, as if it were not there");
  for (let tries = 0; tries < 100; tries += 1) {
    await page.goto(`${issuer}/account`);
    if ((await page.locator("section[aria-labelledby=acts]").innerText()).includes("oracle")) break;
    await new Promise((later) => setTimeout(later, 100));
  }
  const acts = page.locator("section[aria-labelledby=acts]");
  const seen = await acts.locator("li").allInnerTexts();
  ok(seen.some((text) => text.includes("model:invoke Model assistant") && text.includes("permitted")), seen.join("|"));
  ok(seen.some((text) => text.includes("model:invoke Model oracle") && text.includes("refused")), seen.join("|"));
  is(await acts.getByRole("link", { name: /Receipt of/ }).count(), seen.filter((text) => text.includes("permitted")).length);
  await look(page, "acts-account");
  const href = await acts.getByRole("link", { name: /Receipt of model:invoke/ }).getAttribute("href");
  const fetched2 = await page.evaluate(async (path) => { const answer = await fetch(path); return [answer.status, answer.headers.get("content-disposition"), await answer.json()]; }, href);
  is(fetched2[0], 200);
  ok(fetched2[1].startsWith("attachment"), fetched2[1]);
  ok(JSON.parse(fetched2[2].entry).what.resource.name === "assistant" && fetched2[2].proof.startsWith("c2sp.org/tlog-proof"), JSON.stringify(fetched2[2]));
  await acts.getByRole("link", { name: "Everything by agent/helper" }).click();
  is(await heading(page), "What agent/helper did in your name");
  ok((await page.innerText("main")).includes("token:issue"));
  await look(page, "acts");
  // Nobody else's, and nothing that she did herself.
  const other = await page.evaluate(async () => (await fetch("/account/acts/dec_00000000-0000-7000-8000-000000000000/receipt")).status);
  is(other, 404);
  await page.getByRole("button", { name: /Withdraw/ }).click();
  await page.waitForURL("**/account?said=withdrawn");
  const after = await fetch(`http://127.0.0.1:${data}/v1/chat/completions`, { method: "POST", headers: { authorization: `Bearer ${acting}`, "content-type": "application/json" },
    body: JSON.stringify({ model: "assistant", messages: [{ role: "user", content: "hello" }] }) });
  is(after.status, 401, "dead with its grant");

  scene("what somebody allowed is seen and withdrawn");
  await page.goto(`${issuer}/account`);
  ok((await page.innerText("main")).includes("notes"));
  await page.getByRole("button", { name: "Withdraw what notes may do" }).click();
  await page.waitForURL("**/account?said=withdrawn");
  ok((await page.innerText("main")).includes("withdrawn"));

  scene("a session is ended from another one");
  await page.getByRole("button", { name: "End all others" }).click();
  await page.waitForURL("**/account?said=ended");
  await phone.page.goto(`${issuer}/account`);
  ok(phone.page.url().includes("/login"), "the phone is out");

  scene("no other site frames our pages, sends our forms or uses our passkeys");
  const evilPort = await port();
  const evil = createServer((request, response) => {
    response.setHeader("content-type", "text/html");
    response.end(`<!doctype html><title>x</title><iframe src="${issuer}/account"></iframe>
      <form id="f" method="post" action="${issuer}/account/end-others"><input name="token" value="x"></form>`);
  }).listen(evilPort, "127.0.0.1");
  const before = alice.complaints.length;
  await page.goto(`http://127.0.0.1:${evilPort}/`);
  const framed = page.frames().find((frame) => frame !== page.mainFrame());
  ok(!framed || !(await framed.content()).includes("alice"), "framed");
  const [forged] = await Promise.all([page.waitForNavigation(), page.evaluate(() => document.getElementById("f").submit())]);
  is(forged.status(), 403);
  alice.complaints.length = before;
  evil.close();
  // A form of our own page, without its token.
  await page.goto(`${issuer}/account`);
  const stripped = await page.evaluate(async () => (await fetch("/account/end-others", { method: "POST", body: new URLSearchParams({ token: "x" }) })).status);
  is(stripped, 403);

  scene("signed out is signed out, also for a copy of the cookie");
  const copied = await alice.context.cookies(issuer);
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.waitForURL("**/login");
  const thief = await person();
  await thief.context.addCookies(copied);
  await thief.page.goto(`${issuer}/account`);
  ok(thief.page.url().includes("/login"));

  scene("an authenticator that verifies nobody is refused, and says so");
  const weak = await person();
  await weak.device({ hasUserVerification: false, isUserVerified: false });
  await weak.page.goto(`${issuer}/login`);
  await weak.page.getByRole("button", { name: "Sign in with a passkey" }).click();
  await weak.page.locator("#passkey .error:not([hidden])").waitFor();

  scene("by another provider: a real one, with what its word is worth here");
  const there = `http://localhost:${elsewhere}`;
  const secretThere = randomBytes(24).toString("base64url");
  const provider = spawn(process.execPath, [join(import.meta.dirname, "provider.mjs"), String(elsewhere), `${issuer}/login/callback/company`, secretThere], { stdio: ["ignore", "pipe", "inherit"] });
  process.on("exit", () => provider.kill());
  await new Promise((ready, failed) => { provider.stdout.once("data", ready); provider.once("exit", failed); });
  const tell = async (changes) => ok((await fetch(`${there}/control`, { method: "POST", body: JSON.stringify(changes) })).ok);
  const accounts = {
    "s-1": { acr: "gold", claims: { preferred_username: "erin", hd: "company.example", groups: ["eng", "everybody", "admins"] } },
    "s-2": { acr: "silver", claims: { preferred_username: "alice", hd: "company.example", groups: ["eng"] } },
    "s-3": { acr: "silver", claims: { preferred_username: "stranger", hd: "evil.example", groups: ["eng"] } },
  };
  await tell({ accounts });
  const spec = { kind: "identity_provider", issuer: there, client_id: "bartizan", credential: "company", allow_private: true, acr: { gold: 4, silver: 2 }, assurance_cap: 3,
    scopes: ["groups"], groups: { claim: "groups", map: [{ value: "eng", group: "engineers" }, { value: "all", group: "staff" }] },
    creates: { when: { hd: ["company.example"] } } };
  await call("PUT", "/api/v1/credentials/company", { credential: "not-the-secret-of-this-client" });
  await call("POST", "/api/v1/resources", [{ name: "engineers", spec: { kind: "group" } }, { name: "staff", spec: { kind: "group" } }, { name: "company", spec }]);
  const resource = async (name) => (await call("GET", "/api/v1/resources/user")).map((one) => one.document ?? one).find((one) => one.name === name)?.spec;
  const via = async (account, options = {}) => {
    const who = options.who ?? await person();
    await who.page.goto(`${issuer}/login`);
    await who.page.getByRole("button", { name: "Sign in with company" }).click();
    await who.page.waitForURL(`${there}/interaction/**`);
    if (options.before) await options.before();
    await who.page.getByLabel("Account").fill(account);
    await who.page.getByRole("button", { name: options.cancel ? "Cancel" : "Continue" }).click();
    await who.page.waitForURL((url) => url.origin === issuer && !url.pathname.startsWith("/interaction"));
    await who.page.waitForLoadState();
    return who;
  };
  const visitors = [];
  const refusedBy = async (what, account, options) => {
    const who = await via(account, options);
    visitors.push(who);
    ok(!who.page.url().endsWith("/account"), what);
    is(await heading(who.page), "That did not work", what);
    is(await cookie(who.context, "__Host-bartizan-session"), undefined, what);
    return who;
  };
  await refusedBy("a wrong secret of ours", "s-1");
  is(await resource("erin"), undefined, "nobody is made by a failed login");
  await call("PUT", "/api/v1/credentials/company", { credential: secretThere });
  const erin = await via("s-1");
  visitors.push(erin);
  await erin.page.waitForURL("**/account");
  is(await heading(erin.page), "erin");
  ok((await erin.page.innerText("main")).includes("by another provider"), "how she was proven");
  is((await resource("erin")).federated, { company: ["engineers"] }, "what is mapped, and nothing else");
  is([(await resource("erin")).roles ?? [], (await resource("erin")).groups ?? []], [[], []]);
  await look(erin.page, "account-by-provider");

  scene("its word is capped: gold is worth four there, and three here");
  const worth = async (who) => {
    const heard = [];
    const listening = createServer((request, response) => { heard.push(request.url); response.end("<!doctype html><title>Back</title>back"); }).listen(back, "127.0.0.1");
    await who.page.goto(`${issuer}/oauth/authorize?${ask}`);
    await who.page.getByRole("button", { name: "Allow" }).click();
    await who.page.waitForURL(`http://127.0.0.1:${back}/**`);
    listening.close();
    listening.closeAllConnections();
    const given = new URL(heard.find((url) => url.startsWith("/back")), issuer).searchParams.get("code");
    const redeemed = await fetch(`${issuer}/oauth/token`, { method: "POST", body: new URLSearchParams({ client_id: "notes", grant_type: "authorization_code",
      code: given, redirect_uri: `http://127.0.0.1:${back}/back`, code_verifier: verifier }) });
    const token = (await redeemed.json()).id_token;
    return JSON.parse(Buffer.from(token.split(".")[1], "base64url")).acr;
  };
  is(await worth(erin), "phr");

  scene("memberships follow what the provider says at each login");
  await tell({ accounts: { ...accounts, "s-1": { acr: "silver", claims: { ...accounts["s-1"].claims, preferred_username: "renamed", groups: ["all"] } } } });
  const again = await via("s-1");
  visitors.push(again);
  is(await heading(again.page), "erin", "issuer and subject, not the name");
  is((await resource("erin")).federated, { company: ["staff"] });
  is(await worth(again), "aal2");
  await tell({ accounts });

  scene("nobody comes to another's account by a name, and nobody from outside is made");
  await refusedBy("alice's name, by an account that is not hers", "s-2");
  is((await resource("alice")).federated, undefined);
  await refusedBy("from another domain", "s-3");
  is(await resource("stranger"), undefined);

  scene("she links her account there herself, and then comes in by it");
  await page.goto(`${issuer}/login`);
  await page.getByRole("button", { name: "Sign in with a passkey" }).click();
  await page.waitForURL("**/account");
  await page.getByRole("button", { name: "Link your account at company" }).click();
  await page.waitForURL(`${there}/interaction/**`);
  await page.getByLabel("Account").fill("s-2");
  await page.getByRole("button", { name: "Continue" }).click();
  await page.waitForURL("**/account?said=linked");
  const linked = await via("s-2");
  visitors.push(linked);
  is(await heading(linked.page), "alice");
  is((await resource("alice")).federated, { company: ["engineers"] });

  scene("cancelled there, another issuer in the answer, another clock, keys that are not its own");
  await refusedBy("cancelled", "s-1", { cancel: true });
  await refusedBy("an answer in another's name", "s-1", { before: () => tell({ iss: "https://evil.example" }) });
  await tell({ iss: null });
  await refusedBy("issued in two minutes", "s-1", { before: () => tell({ ahead: 120 }) });
  await tell({ ahead: 0 });
  // Its keys change: they are read once more, unless they were just read, and the login holds.
  await new Promise((waited) => setTimeout(waited, 10_500));
  await tell({ rotate: true });
  const rotated = await via("s-1");
  visitors.push(rotated);
  is(await heading(rotated.page), "erin", "by the new key");
  await new Promise((waited) => setTimeout(waited, 10_500));
  await tell({ rotate: true, keys: "others" });
  await refusedBy("by a key that it does not publish", "s-1");
  await tell({ keys: "true" });

  scene("whoever is disabled here stays out, whatever is said there");
  await call("POST", "/api/v1/resources", [{ name: "erin", spec: { kind: "user", status: "disabled" } }]);
  await erin.page.goto(`${issuer}/account`);
  ok(erin.page.url().includes("/login"), "out at once");
  await new Promise((waited) => setTimeout(waited, 10_500));
  await refusedBy("disabled", "s-1");
  is((await resource("erin")).federated, { company: ["engineers"] }, "untouched");
  provider.kill();

  const expected = (text) => /status of (401|403|429|409|422)/.test(text) || /favicon|ERR_CONNECTION_REFUSED|status of 404/.test(text) // icons that browsers ask for
    || /ERR_CONNECTION_RESET http:\/\/127\.0\.0\.1:/.test(text); // of a command line that has its answer and is gone
  const complaints = [alice, phone, lost, thief, weak, ...visitors].flatMap((one) => one.complaints).filter((text) => !expected(text));
  is(complaints, [], "what the browsers complained about");
  console.log(`ok: ${done.length} scenes, ${checks} checks`);
} catch (error) {
  for (const page of browser.contexts().flatMap((context) => context.pages())) console.error(page.url(), await page.innerText("body").catch(() => ""));
  throw error;
} finally {
  await browser.close();
  house.kill("SIGTERM");
  await new Promise((ended) => house.once("exit", ended));
  rmSync(folder, { recursive: true, force: true });
}
