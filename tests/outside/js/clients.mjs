// The official JavaScript client libraries through the gateway.
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";

const { BARTIZAN_URL: url, BARTIZAN_MODEL: model } = process.env;
const key = (name) => process.env[`BARTIZAN_KEY_${name}`];
const mail = "say: write to ann.lee@mail.example today";
let passed = 0;
let failed = 0;

function check(what, holds) {
  if (holds) passed += 1;
  else failed += 1;
  console.log((holds ? "ok   " : "FAIL ") + what);
}

async function raises(what, kind, call) {
  try {
    await call();
    check(`${what}: ${kind.name}`, false);
  } catch (error) {
    check(`${what}: ${kind.name}`, error instanceof kind);
  }
}

const user = (content) => [{ role: "user", content }];
const openai = (name) => new OpenAI({ baseURL: `${url}/v1`, apiKey: key(name), maxRetries: 0 });
const anthropic = (name) => new Anthropic({ baseURL: url, apiKey: key(name), maxRetries: 0 });

const answer = await openai("ALLOWED").chat.completions.create({ model, messages: user("say: hello") });
check("openai chat", answer.choices[0].message.content === "hello");
let text = "";
for await (const part of await openai("MASKED").chat.completions.create({ model, messages: user(mail), stream: true })) {
  text += part.choices[0]?.delta?.content ?? "";
}
check("openai masked stream", text === "write to [email] today");
const response = await openai("ALLOWED").responses.create({ model, input: "say: hello" });
check("openai responses", response.output_text === "hello");
const vectors = await openai("ALLOWED").embeddings.create({ model, input: "a" });
check("openai embeddings", vectors.data[0].embedding[3] === 1);
await raises("openai denied", OpenAI.NotFoundError, () => openai("DENIED").chat.completions.create({ model, messages: user("hi") }));
await raises("openai revoked", OpenAI.AuthenticationError, () => openai("REVOKED").models.list());

const message = await anthropic("ALLOWED").messages.create({ model, max_tokens: 100, messages: user("say: hello") });
check("anthropic messages", message.content[0].text === "hello");
const final = await anthropic("MASKED").messages.stream({ model, max_tokens: 100, messages: user(mail) }).finalText();
check("anthropic masked stream", final === "write to [email] today");
await raises("anthropic denied", Anthropic.NotFoundError, () => anthropic("DENIED").messages.create({ model, max_tokens: 10, messages: user("hi") }));

console.log(`${passed} passed, ${failed} failed`);
process.exit(failed > 0 ? 1 : 0);
