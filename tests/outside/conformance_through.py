"""The client that the MCP conformance suite starts: it puts the suite's server behind the door of a running house, and uses it through
the door as an agent would. So what the suite sees is the house as a client. Run by conformance_client.py.
"""

import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

CONTROL, DATA, ADMIN, KEY = (os.environ[f"HOUSE_{name}"] for name in ("CONTROL", "DATA", "ADMIN", "KEY"))
REVISION = os.environ.get("MCP_CONFORMANCE_PROTOCOL_VERSION", "2025-11-25")
MODERN = REVISION == "2026-07-28"
ROUNDS = 6


def send(method, url, body, headers, key):
    request = urllib.request.Request(url, method=method, data=None if body is None else json.dumps(body).encode(), headers=headers)
    request.add_header("content-type", "application/json")
    request.add_header("authorization", f"Bearer {key}")
    return urllib.request.urlopen(request, timeout=25)


def manage(method, path, body=None):
    for _ in range(20):
        try:
            with send(method, CONTROL + path, body, {}, ADMIN) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            told = error.read().decode()
            # Somebody else has changed the house at the same time.
            if error.code != 409:
                sys.exit(f"{method} {path}: {error.code} {told}")
            time.sleep(0.1)
    sys.exit(f"{method} {path}: a conflict every time")


def serve(address):
    """Declares the suite's server, and approves what it offers."""
    parts = urllib.parse.urlsplit(address)
    name = f"suite-{parts.port}"
    route = {
        "kind": "tool_route", "upstream": name, "path": parts.path or "/", "accepts": ["elicitation", "sampling", "roots"],
        "transport": "stateless_http" if MODERN else "http",
    }
    manage("POST", "/api/v1/resources", [
        {"name": name, "spec": {"kind": "upstream", "base_url": f"http://127.0.0.1:{parts.port}", "allow_private": True}},
        {"name": name, "spec": {"kind": "tool_server"}},
        {"name": f"{name}/resource:read", "spec": {"kind": "tool", "within": [name]}},
        {"name": name, "spec": route},
    ])
    offered = manage("GET", f"/api/v1/tools/{name}")
    tools = {one["name"]: one["digest"] for one in offered if one["standing"] == "new"}
    if tools:
        manage("POST", f"/api/v1/tools/{name}/approve", {"tools": tools})
    return f"{DATA}/mcp/{name}"


def filled(schema):
    """A form as its schema would have it where nobody fills it in."""
    properties = schema.get("properties", {})
    return {name: one["default"] for name, one in properties.items() if "default" in one}


def answer_to(asked):
    """What the person or program at a client says to a server's question."""
    method, params = asked["method"], asked.get("params", {})
    if method == "elicitation/create":
        return {"action": "accept", "content": filled(params.get("requestedSchema", {})) or {"confirmed": True}}
    if method == "roots/list":
        return {"roots": []}
    return {"role": "assistant", "content": {"type": "text", "text": "four"}, "model": "none", "stopReason": "endTurn"}


def value_for(schema):
    kinds = {"string": "a", "number": 5, "integer": 5, "boolean": True, "array": [], "object": {}}
    return schema.get("default", kinds.get(schema.get("type"), "a"))


class Client:
    def __init__(self, endpoint):
        self.endpoint, self.number, self.session = endpoint, 0, None
        self.can = {"elicitation": {}, "sampling": {}, "roots": {}}

    def headers(self, method, params, mirrored):
        headers = {"accept": "application/json, text/event-stream"}
        if MODERN:
            headers |= {"mcp-protocol-version": REVISION, "mcp-method": method, **mirrored}
            named = params.get("name") or params.get("uri")
            if method in ("tools/call", "prompts/get", "resources/read"):
                headers["mcp-name"] = named
        elif method != "initialize":
            headers |= {"mcp-protocol-version": REVISION, "mcp-session-id": self.session}
        return headers

    def post(self, body, mirrored=None):
        """What comes back, message by message; questions are answered where they stand."""
        answer = None
        try:
            with send("POST", self.endpoint, body, self.headers(body.get("method", ""), body.get("params", {}), mirrored or {}), KEY) as told:
                self.session = told.headers.get("mcp-session-id", self.session)
                if "event-stream" not in told.headers.get("content-type", ""):
                    words = told.read()
                    return json.loads(words) if words else None
                for line in told:
                    if line.startswith(b"data: "):
                        message = json.loads(line[6:])
                        if "method" in message and "id" in message:
                            self.post({"jsonrpc": "2.0", "id": message["id"], "result": answer_to(message)})
                        elif "method" not in message:
                            answer = message
        except urllib.error.HTTPError as error:
            answer = json.loads(error.read())
        return answer

    def ask(self, method, params=None, mirrored=None):
        self.number += 1
        params = dict(params or {})
        if MODERN:
            params["_meta"] = {
                "io.modelcontextprotocol/protocolVersion": REVISION, "io.modelcontextprotocol/clientCapabilities": self.can,
                "io.modelcontextprotocol/clientInfo": {"name": "through", "version": "1"},
            }
        return self.post({"jsonrpc": "2.0", "id": self.number, "method": method, "params": params}, mirrored)

    def begin(self):
        if not MODERN:
            who = {"name": "through", "version": "1"}
            self.ask("initialize", {"protocolVersion": REVISION, "capabilities": self.can, "clientInfo": who})
            self.post({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def rounds(self, method, params, mirrored=None):
        """Asks, and goes on for as long as the server wants more of us (SEP-2322)."""
        told, more = None, {}
        for _ in range(ROUNDS):
            told = self.ask(method, {**params, **more}, mirrored)
            result = (told or {}).get("result", {})
            if result.get("resultType") != "input_required":
                break
            more = {"inputResponses": {name: answer_to(one) for name, one in result.get("inputRequests", {}).items()}}
            if "requestState" in result:
                more["requestState"] = result["requestState"]
        print(method, params.get("name", ""), json.dumps(told)[:300], file=sys.stderr)


def mirrored(schema, arguments):
    """What the door wants repeated in headers; encoded always, so that nothing here depends on when it must be."""
    import base64

    out = {}
    for name, one in schema.get("properties", {}).items():
        given = arguments.get(name)
        if "x-mcp-header" in one and given is not None:
            text = json.dumps(given) if isinstance(given, (bool, int)) else given
            out[f"Mcp-Param-{one['x-mcp-header']}"] = f"=?base64?{base64.b64encode(text.encode()).decode()}?="
    return out


def main():
    client = Client(serve(sys.argv[-1]))
    client.begin()
    tools = ((client.ask("tools/list") or {}).get("result") or {}).get("tools", [])
    schemas = {tool["name"]: tool["inputSchema"] for tool in tools}
    context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}"))
    calls = context.get("toolCalls") or [
        {"name": name, "arguments": {one: value_for(schema["properties"][one]) for one in schema.get("required", []) if one in schema.get("properties", {})}}
        for name, schema in schemas.items()
    ]
    for call in calls:
        client.rounds("tools/call", call, mirrored(schemas.get(call["name"], {}), call["arguments"]))
    for kind, method in (("prompts", "prompts/get"), ("resources", "resources/read")):
        listed = ((client.ask(f"{kind}/list") or {}).get("result") or {}).get(kind, [])
        for one in listed[:3]:
            client.rounds(method, {"name": one["name"]} if kind == "prompts" else {"uri": one["uri"]})


main()
