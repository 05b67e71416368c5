"""The official Python client libraries through the gateway."""

import asyncio
import os
import sys

import anthropic
import openai

URL = os.environ["BARTIZAN_URL"]
MODEL = os.environ["BARTIZAN_MODEL"]
PRODUCTION = os.environ["BARTIZAN_MODEL_PRODUCTION"]
KEYS = {name: os.environ["BARTIZAN_KEY_" + name.upper()] for name in ("allowed", "denied", "masked", "revoked")}
MAIL = "say: write to ann.lee@mail.example today"

passed, failed = 0, 0


def check(what, holds):
    global passed, failed
    passed, failed = passed + bool(holds), failed + (not holds)
    print(("ok   " if holds else "FAIL ") + what)


def raises(what, kind, call, reason=None):
    try:
        call()
    except kind as error:
        body = error.body if isinstance(error.body, dict) else {}
        found = (body.get("bartizan") or {}).get("reason")
        check(f"{what}: {kind.__name__} {found}", reason is None or found == reason)
    else:
        check(f"{what}: {kind.__name__}", False)


def oai(key):
    return openai.OpenAI(base_url=URL + "/v1", api_key=KEYS[key], max_retries=0)


def ant(key):
    return anthropic.Anthropic(base_url=URL, api_key=KEYS[key], max_retries=0)


def user(text):
    return [{"role": "user", "content": text}]


def chat():
    client = oai("allowed")
    answer = client.chat.completions.create(model=MODEL, messages=user("say: hello"))
    check("openai chat", answer.choices[0].message.content == "hello" and answer.usage.completion_tokens == 1)
    stream = client.chat.completions.create(model=MODEL, messages=user("say: hello there"), stream=True)
    check("openai chat stream", "".join(c.choices[0].delta.content or "" for c in stream if c.choices) == "hello there")
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
    answer = client.chat.completions.create(model=MODEL, messages=user("call the tool weather"), tools=[tool])
    check("openai tool call", answer.choices[0].message.tool_calls[0].function.name == "weather")
    masked = oai("masked").chat.completions.create(model=MODEL, messages=user(MAIL), stream=True)
    check("openai masked stream", "".join(c.choices[0].delta.content or "" for c in masked if c.choices) == "write to [email] today")


def responses():
    client = oai("allowed")
    check("openai responses", client.responses.create(model=MODEL, input="say: hello").output_text == "hello")
    events = client.responses.create(model=MODEL, input="say: hello there", stream=True)
    check("openai responses stream", "".join(e.delta for e in events if e.type == "response.output_text.delta") == "hello there")
    check("openai responses masked", oai("masked").responses.create(model=MODEL, input=MAIL).output_text == "write to [email] today")


def rest():
    client = oai("allowed")
    check("openai embeddings", client.embeddings.create(model=MODEL, input=["a", "b"]).data[1].embedding == [0.5, -0.5, 0.25, 1.0])
    names = [m.id for m in client.models.list()]
    check("openai models", MODEL in names and client.models.retrieve(MODEL).id == MODEL)
    create = lambda key, model: oai(key).chat.completions.create(model=model, messages=user("say: hi"))
    raises("openai denied", openai.NotFoundError, lambda: create("denied", MODEL), "model_not_found")
    raises("openai unknown model", openai.NotFoundError, lambda: create("allowed", "no-such-model"), "model_not_found")
    raises("openai revoked", openai.AuthenticationError, lambda: create("revoked", MODEL), "credential_revoked")
    raises("openai step-up", openai.AuthenticationError, lambda: create("allowed", PRODUCTION), "assurance_too_low")
    raises("openai held", openai.PermissionDeniedError, lambda: create("allowed", "weights-lab"), "approval_required")


def messages():
    client = ant("allowed")
    answer = client.messages.create(model=MODEL, max_tokens=100, messages=user("say: hello"))
    check("anthropic messages", answer.content[0].text == "hello" and answer.usage.output_tokens == 1)
    with client.messages.stream(model=MODEL, max_tokens=100, messages=user("say: hello there")) as stream:
        check("anthropic stream", "".join(stream.text_stream) == "hello there")
    with ant("masked").messages.stream(model=MODEL, max_tokens=100, messages=user(MAIL)) as stream:
        check("anthropic masked stream", "".join(stream.text_stream) == "write to [email] today")
    counted = client.messages.count_tokens(model=MODEL, messages=user("say: one two"))
    check(f"anthropic: tokens are counted ({counted.input_tokens})", counted.input_tokens == 3)
    raises("anthropic: whoever may not use a model cannot count with it", anthropic.NotFoundError,
           lambda: ant("denied").messages.count_tokens(model=MODEL, messages=user("say: hi")), "model_not_found")
    create = lambda key, model: ant(key).messages.create(model=model, max_tokens=10, messages=user("say: hi"))
    raises("anthropic denied", anthropic.NotFoundError, lambda: create("denied", MODEL), "model_not_found")
    raises("anthropic revoked", anthropic.AuthenticationError, lambda: create("revoked", MODEL), "credential_revoked")
    raises("anthropic held", anthropic.PermissionDeniedError, lambda: create("allowed", "weights-lab"), "approval_required")
    check("anthropic models", MODEL in [m.id for m in client.models.list()])


async def together():
    client = openai.AsyncOpenAI(base_url=URL + "/v1", api_key=KEYS["allowed"], max_retries=0)
    asks = [client.chat.completions.create(model=MODEL, messages=user(f"say: {n}")) for n in range(20)]
    answers = await asyncio.gather(*asks)
    check("twenty at once, none mixed up", [a.choices[0].message.content for a in answers] == [str(n) for n in range(20)])


for part in (chat, responses, rest, messages):
    part()
asyncio.run(together())
print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0)
