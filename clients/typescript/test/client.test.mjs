import assert from "node:assert/strict";
import { createServer } from "node:http";
import { test } from "node:test";
import { inspect } from "node:util";

import { Answer, Client, DecisionError, ForeignAnswer, guard, Obligation, Refused, Unreachable } from "../dist/index.js";

const QUESTION = { subject: { type: "user", id: "alice" }, action: { name: "read" }, resource: { type: "record", id: "7" } };
const REDACT = { id: "obl-1", type: "custom", properties: { vendor: "bartizan", obligation: { kind: "redact" } } };
const OTHER = { id: "obl-2", type: "notification" };

/** A decision point that says `answers` one after the other, and what it was asked. */
async function point(run, ...answers) {
  const asked = [];
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const piece of request) body += piece;
    asked.push({ path: request.url, key: request.headers.authorization, body: body && JSON.parse(body) });
    const { status = 200, headers = {}, says } = answers.shift();
    response.writeHead(status, headers).end(typeof says === "string" ? says : JSON.stringify(says));
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  try {
    await run(new Client({ base: `http://127.0.0.1:${server.address().port}/`, key: "the-key" }), asked);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

const redacts = (obligation) => obligation.own("redact") !== undefined;

test("only a yes whose every obligation is applied is a permit", async () => {
  const says = (decision, ...obligations) => ({ says: { decision, context: { obligations } } });
  await point(
    async (client) => {
      assert.equal((await client.evaluate(QUESTION)).permits(), true);
      assert.equal((await client.evaluate(QUESTION)).permits(() => true), false);
      const redact = await client.evaluate(QUESTION);
      assert.equal(redact.permits(redacts), true);
      assert.equal(redact.permits(), false);
      assert.equal(redact.permits(() => "yes"), false, "only `true` is done");
      assert.equal(redact.permits(() => { throw new Error("broken"); }), false);
      const both = await client.evaluate(QUESTION);
      const seen = [];
      assert.equal(both.permits((one) => { seen.push(one.id); return redacts(one); }), false);
      assert.deepEqual(seen, ["obl-2", "obl-1"], "what can be applied is applied, whatever else there is");
    },
    says(true), says(false), says(true, REDACT), says(true, OTHER, REDACT),
  );
});

test("a question is sent as the specification writes it", async () => {
  await point(async (client, asked) => {
    await client.evaluate(QUESTION);
    assert.deepEqual(asked, [{ path: "/access/v1/evaluation", key: "Bearer the-key", body: QUESTION }]);
  }, { says: { decision: true } });
});

test("what is no decision is no answer", async () => {
  const bad = [
    {}, [], null, true, { decision: "true" }, { decision: 1 }, { decision: true, context: [] }, { decision: true, context: { obligations: {} } },
    { decision: true, context: { obligations: [{ id: "x" }] } }, { decision: true, context: { obligations: [{ ...REDACT, properties: [] }] } }, "", "{", "<html>",
  ];
  await point(async (client) => {
    for (const value of bad) await assert.rejects(client.evaluate(QUESTION), ForeignAnswer, JSON.stringify(value));
  }, ...bad.map((says) => ({ says })));
});

test("a refusal to answer is no permit whatever it says", async () => {
  const refusals = [201, 400, 401, 403, 404, 500, 503].map((status) => ({ status, says: { decision: true, error: { code: "forbidden" } } }));
  await point(async (client) => {
    for (const { status } of [...refusals]) {
      await assert.rejects(client.evaluate(QUESTION), (error) => error instanceof Refused && error.status === status && error.code === "forbidden");
    }
  }, ...refusals);
});

test("the key follows no redirect, and is not shown", async () => {
  await point(async (client, asked) => {
    await assert.rejects(client.evaluate(QUESTION), Unreachable);
    assert.equal(asked.length, 1);
    assert.ok(!inspect(client, { depth: 9, showHidden: true }).includes("the-key"));
  }, { status: 307, headers: { location: "/elsewhere" }, says: "" }, { says: { decision: true } });
});

test("a decision point that is not there, or does not answer in time, permits nothing", async () => {
  await assert.rejects(new Client({ base: "http://127.0.0.1:1", key: "k" }).evaluate(QUESTION), Unreachable);
  // What waits for an answer holds the process; a timeout alone does not.
  const never = (_, { signal }) => new Promise((_, no) => {
    const waits = setInterval(() => {}, 1000);
    signal.addEventListener("abort", () => { clearInterval(waits); no(signal.reason); });
  });
  await assert.rejects(new Client({ base: "http://127.0.0.1:1", key: "k", timeoutMs: 5, fetch: never }).evaluate(QUESTION), DecisionError);
});

test("an address is one", () => {
  for (const base of ["", "gateway", "ftp://gateway", "https://", "file:///etc", "https://a@b", "https://a?b"]) {
    assert.throws(() => new Client({ base, key: "k" }), TypeError, base);
  }
});

test("several questions have as many answers", async () => {
  await point(async (client) => {
    assert.deepEqual(await client.evaluateAll([]), []);
    assert.deepEqual((await client.evaluateAll([QUESTION, QUESTION])).map((one) => one.permits()), [true, false]);
    for (let at = 0; at < 2; at += 1) await assert.rejects(client.evaluateAll([QUESTION, QUESTION]), ForeignAnswer);
  }, { says: { evaluations: [{ decision: true }, { decision: false }] } }, { says: { evaluations: [{ decision: true }] } }, { says: [] });
});

test("nothing that is not permitted reaches a guarded handler", async () => {
  const obligation = new Obligation("obl-1", "custom", REDACT.properties);
  const cases = [
    [new Answer(true, [], []), 200],
    [new Answer(false, [], ["forbidden"]), 403],
    [new Answer(true, [obligation], []), 403],
    [new Unreachable("nobody"), 503],
    [new Error("broken"), 500],
  ];
  const through = async (told, more = {}) => {
    let reached = false;
    const client = { evaluate: async () => { if (told instanceof Error) throw told; return told; } };
    const handler = guard({ client, question: () => QUESTION, ...more }, () => { reached = true; return new Response("ok"); });
    return [(await handler(new Request("http://shop.example/orders/7"))).status, reached];
  };
  for (const [told, status] of cases) assert.deepEqual(await through(told), [status, status === 200]);
  const yes = new Answer(true, [], []);
  assert.deepEqual(await through(yes, { question: () => undefined }), [403, false]);
  assert.deepEqual(await through(yes, { question: () => { throw new Error("broken"); } }), [500, false]);
  const must = new Answer(true, [obligation], []);
  assert.deepEqual(await through(must, { obligations: { redact: () => true } }), [200, true]);
  assert.deepEqual(await through(must, { obligations: { redact: () => undefined } }), [403, false]);
  assert.deepEqual(await through(must, { obligations: { cap: () => true } }), [403, false]);
});
