"""Foreign MCP clients through the door to a real server: the official TypeScript and Python SDKs, and `server-everything` behind it; then
the conformance suite, with the house as its server (conformance.py) and as its client (conformance_client.py).

Starts a house of its own and the server. Installs what is missing: Python packages into target/venv-mcp, npm packages into
tests/outside/js-mcp.
"""

import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

from conformance import conform, proxy
from conformance_client import conform_as_client

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BINARY = pathlib.Path(os.environ.get("BARTIZAN_BINARY", ROOT / "target" / "debug" / "bartizan"))
JS = pathlib.Path(os.environ.get("BARTIZAN_JS_MCP", HERE / "js-mcp"))
NODE = pathlib.Path(os.environ.get("BARTIZAN_NODE", JS / "node_modules" / "node" / "bin" / "node"))

POLICY = """
@id("administrators-run-the-house")
permit (principal in Role::"administrator", action in [Action::"house:change", Action::"house:read"], resource);
@id("everybody-looks-after-their-own")
permit (principal, action in Action::"self:use", resource);
@id("users-use-tools")
permit (principal in Role::"tool-user", action in [Action::"tool:use", Action::"tool:list"], resource in ToolServer::"everything");
@id("the-suite-uses-its-servers")
permit (principal == User::"suite", action in [Action::"tool:use", Action::"tool:list"], resource in ToolServer::"conformance");
@id("the-suite-uses-its-servers-in-the-newest-revision")
permit (principal == User::"suite", action in [Action::"tool:use", Action::"tool:list"], resource in ToolServer::"modern");
@id("the-suites-own-servers")
permit (principal == User::"suite", action in [Action::"tool:use", Action::"tool:list"], resource)
when { resource is ToolServer || resource is Tool };
@id("the-servers-environment-is-nobodys-business")
forbid (principal, action in [Action::"tool:use", Action::"tool:list"], resource == Tool::"everything/get-env");
@id("nobody-needs-pictures")
forbid (principal, action in Action::"tool:use", resource == Tool::"everything/get-tiny-image");
"""


def run(*command, **options):
    return subprocess.run([str(part) for part in command], check=True, **options)


def install():
    venv = pathlib.Path(os.environ.get("BARTIZAN_VENV_MCP", ROOT / "target" / "venv-mcp"))
    python = venv / "bin" / "python"
    if not python.exists():
        run(sys.executable, "-m", "venv", venv)
        run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "mcp==2.3.0")
    if not (JS / "node_modules" / "@modelcontextprotocol" / "server-everything").exists():
        run("npm", "install", "--silent", "--no-audit", "--no-fund", "--no-package-lock", cwd=JS)
    return python


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait(what, holds):
    deadline = time.monotonic() + 60
    while not holds():
        if time.monotonic() > deadline:
            sys.exit(f"{what} did not start")
        time.sleep(0.1)


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class House:
    def __init__(self, folder, public_url):
        ports = [free_port() for _ in range(3)]
        self.data, self.control = (f"http://127.0.0.1:{port}" for port in ports[:2])
        names = ("LISTENERS__DATA", "LISTENERS__CONTROL", "LISTENERS__OPERATIONS")
        settings = {f"BARTIZAN_{name}": f"127.0.0.1:{port}" for name, port in zip(names, ports)}
        settings |= {"BARTIZAN_DATA__FOLDER": str(folder / "data"), "BARTIZAN_LISTENERS__PUBLIC_URL": public_url}
        environment = {**os.environ, **settings}
        told = run(BINARY, "init", env=environment, capture_output=True, text=True).stdout
        claim = re.search(r"^\s+(\S{40,})$", told.split("one use:")[1], re.M).group(1)
        self.log = open(folder / "house.log", "w")
        self.process = subprocess.Popen([str(BINARY), "serve"], env=environment, stdout=self.log, stderr=self.log)
        wait("the house", lambda: listens(ports[0]) and listens(ports[1]))
        self.admin = None
        self.admin = self.call("POST", "/api/v1/claim", {"claim": claim, "name": "ada"})["key"]["text"]

    def call(self, method, path, body=None):
        request = urllib.request.Request(self.control + path, method=method, data=json.dumps(body).encode() if body is not None else None)
        request.add_header("content-type", "application/json")
        if self.admin:
            request.add_header("authorization", f"Bearer {self.admin}")
        try:
            with urllib.request.urlopen(request) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            sys.exit(f"{method} {path}: {error.code} {error.read().decode()}")

    def key(self, name):
        return self.call("POST", "/api/v1/keys", {"principal_kind": "user", "principal": name})["text"]


def approve_all(house, server):
    offered = house.call("GET", f"/api/v1/tools/{server}")
    tools = {one["name"]: one["digest"] for one in offered if one["standing"] == "new"}
    house.call("POST", f"/api/v1/tools/{server}/approve", {"tools": tools})


def conformance(house, python, folder, target, proxied):
    """The suite, with a server behind the door that has everything which the suite asks for."""
    port = free_port()
    log = open(folder / "conformance.log", "w")
    server = subprocess.Popen([str(python), str(HERE / "conformance_server.py")], env={**os.environ, "PORT": str(port)}, stdout=log, stderr=log)
    try:
        wait("the server of the conformance suite", lambda: listens(port))
        documents = [
            {"name": "conformance", "spec": {"kind": "upstream", "base_url": f"http://127.0.0.1:{port}", "allow_private": True}},
            {"name": "suite", "spec": {"kind": "user"}},
        ]
        for name, transport in (("conformance", "http"), ("modern", "stateless_http")):
            accepts = ["elicitation", "sampling", "roots"]
            documents += [
                {"name": name, "spec": {"kind": "tool_server"}},
                {"name": f"{name}/resource:read", "spec": {"kind": "tool", "within": [name]}},
                {"name": name, "spec": {"kind": "tool_route", "upstream": "conformance", "transport": transport, "accepts": accepts}},
            ]
        house.call("POST", "/api/v1/resources", documents)
        for name in ("conformance", "modern"):
            approve_all(house, name)
        suite = JS / "node_modules" / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
        key = house.key("suite")
        target.extend([int(house.data.rsplit(":", 1)[1]), key])
        good = conform(NODE, suite, proxied)
        return conform_as_client(NODE, suite, python, house, key) and good
    finally:
        server.terminate()
        server.wait()


def main():
    python = install()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        port = free_port()
        script = JS / "node_modules" / "@modelcontextprotocol" / "server-everything" / "dist" / "index.js"
        log = open(folder / "everything.log", "w")
        server = subprocess.Popen([str(NODE), str(script), "streamableHttp"], env={**os.environ, "PORT": str(port)}, stdout=log, stderr=log)
        house = None
        try:
            wait("server-everything", lambda: listens(port))
            target = []
            proxied = proxy(target)
            house = House(folder, f"http://127.0.0.1:{proxied}")
            house.call("POST", "/api/v1/resources", [
                {"name": "tool-user", "spec": {"kind": "role"}},
                {"name": "everything", "spec": {"kind": "upstream", "base_url": f"http://127.0.0.1:{port}", "allow_private": True}},
                {"name": "everything", "spec": {"kind": "tool_server", "confidentiality": "internal"}},
                {"name": "everything/resource:read", "spec": {"kind": "tool", "within": ["everything"], "confidentiality": "internal"}},
                {"name": "everything", "spec": {"kind": "tool_route", "upstream": "everything"}},
                {"name": "ann", "spec": {"kind": "user", "roles": ["tool-user"]}},
                {"name": "bob", "spec": {"kind": "user"}},
            ])
            house.call("PUT", "/api/v1/policy", {"files": {"policy.cedar": POLICY}, "expect": 1})
            offered = house.call("GET", "/api/v1/tools/everything")
            print(f"{len(offered)} definitions are offered", flush=True)
            tools = {one["name"]: one["digest"] for one in offered if one["standing"] == "new"}
            house.call("POST", "/api/v1/tools/everything/approve", {"tools": tools})
            again = house.call("GET", "/api/v1/tools/everything")
            steady = all(one["standing"] == "approved" for one in again)
            print(("ok   " if steady else "FAIL ") + "definitions of a real server are the same every time", flush=True)
            environment = {
                **os.environ, "BARTIZAN_MCP": house.data, "BARTIZAN_KEY": house.key("ann"), "BARTIZAN_KEY_NOBODY": house.key("bob"),
            }
            ok = steady and subprocess.run([str(NODE), "tools.mjs"], cwd=HERE / "js-mcp", env=environment).returncode == 0
            ok &= subprocess.run([str(python), str(HERE / "tools_client.py")], env=environment).returncode == 0
            ok &= conformance(house, python, folder, target, proxied)
        finally:
            for process in [server] + ([house.process] if house else []):
                process.terminate()
                process.wait()
        if not ok:
            print((folder / "house.log").read_text()[-4000:])
    sys.exit(0 if ok else 1)


main()
