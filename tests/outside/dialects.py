"""The libraries of Azure OpenAI, Amazon Bedrock and Gemini through a real house, to simulated models behind it.

Starts a house of its own, and two simulated models: one that answers, and one behind a signature by the house, which is judged by
Amazon's own library.
"""

import atexit
import datetime
import json
import os
import pathlib
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import unittest.mock
import urllib.parse
import urllib.request

import botocore.auth
import botocore.awsrequest
import botocore.credentials

from house import BINARY, ROOT, House, Tally, check, free_port, until

SIMULATED = BINARY.with_name("bartizan-simulated-model")
POLICY = (ROOT / "crates" / "bartizan" / "demo" / "policy.cedar").read_text()
MAIL, MASKED = "say: write to ann.lee@mail.example today", "write to [email] today"
OWN, SECRET = "the-houses-own", "AKIDOFTHEHOUSE:the/secret+of=the/house:a-session"
DIALECTS = ["openai.chat", "azure.chat", "azure.completions", "azure.embeddings", "bedrock.converse", "bedrock.invoke", "gemini.generate", "gemini.embed"]
REGION = "eu-west-1"


def simulated():
    """A simulated model; gives its address."""
    if not SIMULATED.exists():
        subprocess.run(["cargo", "build", "--quiet", "--package", "bartizan-simulated-model"], cwd=ROOT, check=True)
    port = free_port()
    process = subprocess.Popen([str(SIMULATED), "--listen", f"127.0.0.1:{port}"], stdout=subprocess.DEVNULL)
    atexit.register(process.kill)
    url = f"http://127.0.0.1:{port}"
    until(lambda: last(url), process)
    return url


def last(url):
    """What reached a simulated model last."""
    with urllib.request.urlopen(url + "/_last") as answer:
        return json.load(answer)


def relay(source, sink):
    """Passes on whatever comes, until nothing does."""
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    for end in (source, sink):
        try:
            end.close()
        except OSError:
            pass


def under_tls(folder, url):
    """TLS in front of a house, since Amazon's libraries present a token nowhere else; gives the address and the certificate."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *subject, "-keyout", key, "-out", certificate],
                   check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    listener = socket.create_server(("127.0.0.1", 0))
    behind = urllib.parse.urlsplit(url)

    def serve():
        while True:
            raw, _ = listener.accept()
            try:
                front = context.wrap_socket(raw, server_side=True)
            except OSError:
                continue
            back = socket.create_connection((behind.hostname, behind.port))
            for one, other in ((front, back), (back, front)):
                threading.Thread(target=relay, args=(one, other), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return f"https://localhost:{listener.getsockname()[1]}", str(certificate)


class World(House):
    def __init__(self, folder, plain, signed):
        super().__init__(folder)
        for name, credential in (("plain", OWN), ("signed", SECRET)):
            self.call("PUT", f"/api/v1/credentials/{name}", {"credential": credential})
        upstream = lambda name, url, auth, **more: (name, {"kind": "upstream", "base_url": url, "allow_private": True, "credential": name, "auth": auth, **more})
        model = lambda name, on: (name, {"kind": "model", "upstream": on, "upstream_model": "there:1", "dialects": DIALECTS, "environment": "development", "project": "support"})
        self.declare([
            ("development", {"kind": "environment"}), ("production", {"kind": "environment"}), ("support", {"kind": "project"}),
            ("engineers", {"kind": "group", "roles": ["model-user"]}), ("contractors", {"kind": "group", "roles": ["model-user"]}),
            upstream("plain", plain, "api_key"), upstream("signed", signed, "sig_v4", region=REGION),
            model("assistant", "plain"), model("claude-v1:0", "signed"),
            ("alice", {"kind": "user", "groups": ["engineers"]}), ("carol", {"kind": "user", "groups": ["contractors"]}),
            ("mallory", {"kind": "user"}),
        ])
        self.call("PUT", "/api/v1/policy", {"files": {"policy.cedar": POLICY}, "expect": 1})
        self.keys = {name: self.new_key(name)["text"] for name in ("alice", "carol", "mallory")}


def azure(house, plain):
    import openai

    def client(name):
        return openai.AzureOpenAI(azure_endpoint=house.data, api_key=house.keys[name], api_version="2024-10-21", max_retries=0)

    user = lambda text: [{"role": "user", "content": text}]
    alice = client("alice")
    answer = alice.chat.completions.create(model="assistant", messages=user("say: hello"))
    check("azure chat", answer.choices[0].message.content == "hello", answer)
    seen = last(plain)
    check("azure: our credential alone reaches it", seen["headers"].get("api-key") == OWN and house.keys["alice"] not in json.dumps(seen), seen)
    check("azure: under its own name there", seen["path"].startswith("/openai/deployments/there%3A1/") and json.loads(seen["body"])["model"] == "there:1", seen)
    stream = client("carol").chat.completions.create(model="assistant", messages=user(MAIL), stream=True)
    check("azure masked stream", "".join(c.choices[0].delta.content or "" for c in stream if c.choices) == MASKED)
    stream = client("carol").completions.create(model="assistant", prompt=MAIL, stream=True)
    check("azure masked stream of completions", "".join(c.choices[0].text for c in stream if c.choices) == MASKED)
    check("azure embeddings", alice.embeddings.create(model="assistant", input=["a", "b"]).data[1].embedding == [0.5, -0.5, 0.25, 1.0])
    newer = openai.OpenAI(base_url=house.data + "/openai/v1", api_key=house.keys["alice"], max_retries=0)
    check("azure's newer address", newer.chat.completions.create(model="assistant", messages=user("say: hi")).choices[0].message.content == "hi")
    try:
        client("mallory").chat.completions.create(model="assistant", messages=user("say: hi"))
        check("azure denied", False)
    except openai.NotFoundError as error:
        check("azure denied", error.body["bartizan"]["reason"] == "model_not_found", error.body)


def gemini(house, plain):
    from google import genai
    from google.genai import errors, types

    def client(name):
        return genai.Client(api_key=house.keys[name], http_options=types.HttpOptions(base_url=house.data, api_version="v1beta"))

    # Held, since a client that nobody holds closes itself in the middle of a stream.
    alice, carol = client("alice"), client("carol")
    answer = alice.models.generate_content(model="assistant", contents="say: hello")
    check("gemini", answer.text == "hello" and answer.usage_metadata.candidates_token_count == 1, answer)
    seen = last(plain)
    check("gemini: no key of a caller goes upstream", house.keys["alice"] not in json.dumps(seen) and "x-goog-api-key" not in seen["headers"], seen)
    config = types.GenerateContentConfig(system_instruction="be kind", max_output_tokens=9000, temperature=0.5)
    stream = carol.models.generate_content_stream(model="assistant", contents=MAIL, config=config)
    check("gemini masked stream", "".join(chunk.text or "" for chunk in stream) == MASKED)
    sent = json.loads(last(plain)["body"])
    check("gemini: masked and capped there", "ann.lee" not in json.dumps(sent) and sent["generationConfig"]["maxOutputTokens"] == 500, sent)
    weather = types.Tool(function_declarations=[types.FunctionDeclaration(name="weather", description="the weather")])
    called = alice.models.generate_content(model="assistant", contents="call the tool weather", config=types.GenerateContentConfig(tools=[weather]))
    check("gemini tool call", called.function_calls[0].name == "weather", called)
    check("gemini embeddings", alice.models.embed_content(model="assistant", contents=["a", "b"]).embeddings[1].values == [0.5, -0.5, 0.25, 1.0])
    check("gemini: tokens are counted", alice.models.count_tokens(model="assistant", contents="say: one two").total_tokens == 3)
    search = types.GenerateContentConfig(tools=[types.Tool(google_search=types.GoogleSearch())])
    for what, who, more, status in (("denied", "mallory", None, "NOT_FOUND"), ("hosted tools refused", "alice", search, "INVALID_ARGUMENT")):
        asking = client(who)
        try:
            asking.models.generate_content(model="assistant", contents="say: hi", config=more)
            check(f"gemini {what}", False)
        except errors.ClientError as error:
            check(f"gemini {what}: {error.code} {error.status}", error.status == status or error.code == 403, error)


def judged(seen):
    """Whether Amazon's own library signs what reached the model as the house signed it."""
    headers = seen["headers"]
    moment = datetime.datetime.strptime(headers["x-amz-date"], "%Y%m%dT%H%M%SZ")
    key, secret, token = SECRET.split(":")
    request = botocore.awsrequest.AWSRequest("POST", f"http://{headers['host']}{seen['path']}", data=seen["body"].encode())
    signer = botocore.auth.SigV4Auth(botocore.credentials.Credentials(key, secret, token), "bedrock", REGION)
    with unittest.mock.patch.object(botocore.auth, "get_current_datetime", lambda *_, **__: moment):
        signer.add_auth(request)
    return request.headers["Authorization"] == headers["authorization"]


def bedrock(house, signed, folder):
    import boto3
    import botocore.config
    import botocore.exceptions

    url, certificate = under_tls(folder, house.data)

    def client(name):
        # As people set it: the key of ours is the bearer token that Amazon's libraries take.
        os.environ["AWS_BEARER_TOKEN_BEDROCK"] = house.keys[name]
        config = botocore.config.Config(retries={"max_attempts": 0})
        return boto3.client("bedrock-runtime", region_name=REGION, endpoint_url=url, verify=certificate, config=config)

    said = lambda text: [{"role": "user", "content": [{"text": text}]}]
    alice, carol, model = client("alice"), client("carol"), "claude-v1:0"
    answer = alice.converse(modelId=model, messages=said("say: hello"))
    check("bedrock converse", answer["output"]["message"]["content"][0]["text"] == "hello" and answer["usage"]["outputTokens"] == 1, answer)
    seen = last(signed)
    check("bedrock: signed by the house, as Amazon's library judges it", judged(seen), seen)
    shown = json.dumps(seen)
    check("bedrock: neither the secret nor a caller's key goes upstream", "the/secret" not in shown and house.keys["alice"] not in shown, seen)
    stream = carol.converse_stream(modelId=model, messages=said(MAIL), inferenceConfig={"maxTokens": 9000})["stream"]
    events = list(stream)
    text = "".join(e["contentBlockDelta"]["delta"]["text"] for e in events if "contentBlockDelta" in e)
    check("bedrock masked stream of converse", text == MASKED and "metadata" in events[-1], events)
    check("bedrock: masked and capped there", json.loads(last(signed)["body"])["inferenceConfig"]["maxTokens"] == 500 and "ann.lee" not in last(signed)["body"])
    body = json.dumps({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 100, "messages": [{"role": "user", "content": MAIL}]})
    answer = json.loads(carol.invoke_model(modelId=model, body=body, contentType="application/json")["body"].read())
    check("bedrock invoke, masked", answer["content"][0]["text"] == MASKED, answer)
    chunks = [json.loads(e["chunk"]["bytes"]) for e in carol.invoke_model_with_response_stream(modelId=model, body=body, contentType="application/json")["body"]]
    text = "".join(c["delta"]["text"] for c in chunks if c["type"] == "content_block_delta")
    check("bedrock invoke, masked stream", text == MASKED and chunks[-1]["type"] == "message_stop", chunks)
    tools = {"tools": [{"toolSpec": {"name": "weather", "inputSchema": {"json": {"type": "object"}}}}]}
    called = alice.converse(modelId=model, messages=said("call the tool weather"), toolConfig=tools)
    check("bedrock tool call", called["output"]["message"]["content"][0]["toolUse"]["name"] == "weather", called)
    try:
        client("mallory").converse(modelId=model, messages=said("say: hi"))
        check("bedrock denied", False)
    except botocore.exceptions.ClientError as error:
        check("bedrock denied", error.response["Error"]["Code"] == "ResourceNotFoundException", error.response)
    try:
        list(alice.converse_stream(modelId=model, messages=said("fault: die-mid-stream and say some more words after that"))["stream"])
        check("bedrock: a stream that breaks off is told", False)
    except botocore.exceptions.EventStreamError as error:
        check("bedrock: a stream that breaks off is told", True, error)
    # Whoever signs by an account of their own is nobody here.
    del os.environ["AWS_BEARER_TOKEN_BEDROCK"]
    own = boto3.client("bedrock-runtime", region_name=REGION, endpoint_url=url, verify=certificate, aws_access_key_id="AKID", aws_secret_access_key="own",
                       config=botocore.config.Config(retries={"max_attempts": 0}))
    before = last(signed)["count"]
    try:
        own.converse(modelId=model, messages=said("say: hi"))
        check("bedrock: a caller's signature is not taken", False)
    except botocore.exceptions.ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        check("bedrock: a caller's signature is not taken", status == 401 and last(signed)["count"] == before, error.response)


def main():
    with tempfile.TemporaryDirectory() as name:
        plain, signed = simulated(), simulated()
        house = World(pathlib.Path(name), plain, signed)
        azure(house, plain)
        gemini(house, plain)
        bedrock(house, signed, pathlib.Path(name))
        house.process.kill()
        house.process.wait()
    print(f"{Tally.passed} passed, {Tally.failed} failed")
    sys.exit(Tally.failed > 0)


main()
