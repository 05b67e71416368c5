"""Foreign OAuth clients against a real house: openid-client, oauth4webapi, Authlib, the MCP SDKs, the MCP conformance suite.

Starts a house of its own with an authority. The person in the browser is signed in by a session whose row this script writes into
the state database: whoever holds that can do anything. Installs what is missing: Python packages into target/venv-oauth, npm packages
into tests/outside/js-oauth.
"""

import asyncio
import base64
import hashlib
import html
import http.client
import http.server
import json
import os
import pathlib
import re
import secrets
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BINARY = pathlib.Path(os.environ.get("BARTIZAN_BINARY", ROOT / "target" / "debug" / "bartizan"))
SECRET = "a secret of more than thirty-two characters"
REDIRECT = "http://127.0.0.1:7999/callback"
passed, failed = 0, 0


def check(what, holds):
    global passed, failed
    passed, failed = passed + bool(holds), failed + (not holds)
    print(("ok   " if holds else "FAIL ") + what, flush=True)


def run(*command, **options):
    print("+", " ".join(str(part) for part in command), flush=True)
    return subprocess.run([str(part) for part in command], check=True, **options)


def install():
    """The Python that has the packages; everything else is there when this returns."""
    venv = ROOT / "target" / "venv-oauth"
    python = venv / "bin" / "python"
    if not python.exists():
        run(sys.executable, "-m", "venv", venv)
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "authlib==1.9.9", "mcp==2.3.0", "requests")
    run("npm", "install", "--silent", "--no-audit", "--no-fund", "--no-package-lock", cwd=HERE / "js-oauth")
    return python


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class House:
    """A running house with an authority, and a browser in which alice is signed in."""

    def __init__(self, folder):
        ports = [free_port() for _ in range(3)]
        self.data, self.issuer = (f"http://127.0.0.1:{port}" for port in ports[:2])
        names = ("LISTENERS__DATA", "LISTENERS__CONTROL", "LISTENERS__OPERATIONS")
        settings = {f"BARTIZAN_{name}": f"127.0.0.1:{port}" for name, port in zip(names, ports)}
        settings |= {"BARTIZAN_DATA__FOLDER": str(folder / "data"), "BARTIZAN_AUTHORITY__ISSUER": self.issuer}
        settings |= {"BARTIZAN_AUTHORITY__REGISTRATION": "true"}
        self.state = folder / "data" / "state.db"
        environment = {**os.environ, **settings}
        told = subprocess.run([str(BINARY), "init"], env=environment, check=True, capture_output=True, text=True).stdout
        claim = re.search(r"^\s+(\S*clm\S*|bzn\S*|\S{40,})$", told.split("one use:")[1], re.M).group(1)
        self.log = open(folder / "serve.log", "w")
        self.process = subprocess.Popen([str(BINARY), "serve"], env=environment, stdout=self.log, stderr=self.log)
        self.key = None
        self.key = self.until(lambda: self.call("POST", "/api/v1/claim", {"claim": claim, "name": "ada"}))["key"]["text"]
        self.declare()
        self.cookie = self.sign_in("alice")

    def until(self, work):
        deadline = time.monotonic() + 60
        while True:
            try:
                return work()
            except (urllib.error.URLError, ConnectionError):
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def call(self, method, path, body=None):
        headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {self.key}"} if self.key else {})
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(self.issuer + path, data, headers, method=method)) as answer:
            return json.load(answer)

    def declare(self):
        scopes = ["openid", "profile", "offline_access", "model:use", "model:invoke", "model:list"]
        digest = hashlib.sha256(SECRET.encode()).hexdigest()

        def client(name, **more):
            spec = {"kind": "client", "redirect_uris": ["http://127.0.0.1/callback"], "scopes": scopes, **more}
            return {"name": name, "spec": spec}

        self.call("POST", "/api/v1/resources", [
            {"name": "alice", "spec": {"kind": "user", "roles": ["model-user"]}},
            {"name": "model-user", "spec": {"kind": "role"}},
            {"name": "development", "spec": {"kind": "environment"}},
            {"name": "nowhere", "spec": {"kind": "upstream", "base_url": "http://127.0.0.1:9", "allow_private": True}},
            {"name": "assistant", "spec": {"kind": "model", "upstream": "nowhere", "dialects": ["openai.chat"], "environment": "development"}},
            client("public"),
            client("bound", bound_tokens=True, pushed_requests=True),
            client("web", authentication={"method": "client_secret", "digests": [digest]}),
        ])

    def sign_in(self, name):
        users = self.call("GET", "/api/v1/resources/user")
        users = users if isinstance(users, list) else users["items"]
        documents = [user.get("document", user) for user in users]
        principal = next(document["principal"] for document in documents if document["name"] == name)
        now = time.time_ns() // 1000
        secret, until = secrets.token_bytes(32), now + 3600 * 10**6
        session = f"ses_{uuid7(now)}"
        body = {
            "id": session, "secret": hashlib.sha256(secret).hexdigest(),
            "principal": {"kind": "user", "name": name, "id": principal},
            "assurance": {"level": 2, "methods": ["otp", "pwd"], "at": now, "via": None},
            "began": now, "ends": until, "idle_ends": until, "agent": "test", "network": "127.0.0.0/24", "device": None,
            "risk": {"level": "low", "score": 0, "at": now, "reasons": []}, "reach": "full",
        }
        row = ("session", session, "default", principal, until, 1, json.dumps(body))
        with sqlite3.connect(self.state, timeout=10) as state:
            state.execute("insert into side_rows (kind, id, tenant, owner, expires_us, version, body) values (?,?,?,?,?,?,?)", row)
        return f"__Host-bartizan-session={session}.{base64.urlsafe_b64encode(secret).rstrip(b'=').decode()}"

    def visit(self, address, form=None, cookie=""):
        """One request of the browser: status, headers, text."""
        parts = urllib.parse.urlsplit(urllib.parse.urljoin(self.issuer, address))
        connection = http.client.HTTPConnection(parts.netloc, timeout=30)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        headers = {"cookie": "; ".join(filter(None, [self.cookie, cookie]))}
        if form is not None:
            headers |= {"content-type": "application/x-www-form-urlencoded", "origin": self.issuer}
        connection.request("GET" if form is None else "POST", path, None if form is None else urllib.parse.urlencode(form), headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()

    def browse(self, address):
        """What the browser is sent to in the end, after the person has allowed whatever they were asked."""
        status, headers, text = self.visit(address)
        location = headers["location"]
        if status != 303 or not location.startswith("/consent"):
            return location or f"error: {status} {text}"
        status, headers, text = self.visit(location)
        fields = re.findall(r'<input [^>]*?name="([^"]*)"[^>]*?value="([^"]*)"', text)
        form = [(html.unescape(name), html.unescape(value)) for name, value in fields] + [("answer", "allow")]
        visit = (headers["set-cookie"] or "").split(";")[0]
        status, headers, text = self.visit("/consent", form, visit)
        found = re.search(r'href="(http://127\.0\.0\.1:[^"]*callback[^"]*)"', text)
        return html.unescape(found.group(1)) if found else f"error: {status} {text}"


def uuid7(now_us):
    random = secrets.randbits(74)
    value = (now_us // 1000) << 80 | 7 << 76 | (random >> 62) << 64 | 2 << 62 | random & (1 << 62) - 1
    return uuid.UUID(int=value).hex


def serve_browser(house):
    """The browser for programs in other languages: `GET /?url=…` gives the address that the person ends up at."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            url = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)["url"][0]
            body = json.dumps({"location": house.browse(url)}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def parameters(address):
    return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(address).query))


def with_authlib(house):
    """A confidential web application: code, PKCE, ID token under our keys, user information, refresh."""
    from authlib.integrations.requests_client import OAuth2Session
    from joserfc import jwt
    from joserfc.jwk import OKPKey

    os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"
    metadata = json.load(urllib.request.urlopen(house.issuer + "/.well-known/openid-configuration"))
    session = OAuth2Session("web", SECRET, scope="openid profile offline_access", redirect_uri=REDIRECT, code_challenge_method="S256")
    verifier = secrets.token_urlsafe(48)
    address, state = session.create_authorization_url(metadata["authorization_endpoint"], code_verifier=verifier, nonce="n-authlib")
    back = house.browse(address)
    check("Authlib: the answer names the issuer", parameters(back).get("iss") == house.issuer)
    token = session.fetch_token(metadata["token_endpoint"], authorization_response=back, state=state, code_verifier=verifier)
    check("Authlib: a code becomes tokens", token["token_type"] == "Bearer" and "refresh_token" in token)
    keys = json.load(urllib.request.urlopen(metadata["jwks_uri"]))
    try:
        header = json.loads(base64.urlsafe_b64decode(token["id_token"].split(".")[0] + "=="))
        check("Authlib: the ID token says by which key", header["kid"] in [key["kid"] for key in keys["keys"]])
        known = {key["kid"]: key for key in keys["keys"]}[header["kid"]]
        claims = jwt.decode(token["id_token"], OKPKey.import_key({k: known[k] for k in ("kty", "crv", "x")}), algorithms=["Ed25519"]).claims
        check("Authlib: the ID token is ours and for us", claims["aud"] == "web" and claims["nonce"] == "n-authlib" and claims["iss"] == house.issuer)
    except Exception as error:  # whatever the library finds
        check(f"Authlib: the ID token verifies: {error!r}", False)
    about = session.get(metadata["userinfo_endpoint"]).json()
    check("Authlib: user information", about.get("preferred_username") == "alice")
    renewed = session.refresh_token(metadata["token_endpoint"])
    check("Authlib: a refresh token becomes the next", renewed["refresh_token"] != token["refresh_token"])
    again = house.browse(session.create_authorization_url(metadata["authorization_endpoint"], code_verifier=verifier)[0])
    check("Authlib: a known client is remembered", "code" in parameters(again))


def with_mcp(house):
    """The MCP SDK for Python: metadata of the resource, of the authority, then the code."""
    import httpx2
    from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider
    from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata

    class Storage:
        def __init__(self):
            self.tokens = None
            self.client = OAuthClientInformationFull(client_id="public", redirect_uris=[REDIRECT], token_endpoint_auth_method="none", issuer=house.issuer)

        async def get_tokens(self):
            return self.tokens

        async def set_tokens(self, tokens):
            self.tokens = tokens

        async def get_client_info(self):
            return self.client

        async def set_client_info(self, client):
            self.client = client

    back = {}

    async def redirect(address):
        back.update(parameters(await asyncio.to_thread(house.browse, address)))

    async def callback():
        return AuthorizationCodeResult(code=back["code"], state=back.get("state"), iss=back.get("iss"))

    async def go():
        storage = Storage()
        described = OAuthClientMetadata(client_name="test", redirect_uris=[REDIRECT], scope="model:list", token_endpoint_auth_method="none")
        provider = OAuthClientProvider(house.data + "/v1", described, storage, redirect, callback)
        async with httpx2.AsyncClient(auth=provider) as client:
            answer = await client.get(house.data + "/v1/models")
        return answer, storage

    answer, storage = asyncio.run(go())
    check("MCP SDK (Python): the flow ends with a token", storage.tokens is not None)
    check(f"MCP SDK (Python): the gateway takes it: {answer.status_code}", answer.status_code == 200)


def conformance(house):
    """The MCP conformance suite, as it judges authorization servers."""
    port = free_port()
    node = HERE / "js-oauth" / "node_modules" / "node" / "bin" / "node"
    command = [str(node), str(HERE / "js-oauth" / "node_modules" / ".bin" / "conformance"), "authorization"]
    command += ["--url", house.issuer, "--client-id", "public", "--resource", house.data, "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    told = ""
    for line in process.stdout:
        told += line
        found = re.search(r"http://\S+/oauth/authorize\?\S+", line)
        if found:
            address = house.browse(found.group(0))
            threading.Thread(target=lambda: urllib.request.urlopen(address).read(), daemon=True).start()
    code = process.wait(timeout=60)
    print(told)
    check(f"MCP conformance, authorization: exit {code}", code == 0 and "authorize" in told)


def main():
    if "--installed" not in sys.argv:
        python = install()
        sys.exit(subprocess.run([str(python), str(HERE / "oauth.py"), "--installed"]).returncode)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        house = House(folder)
        try:
            for judge in (with_authlib, with_mcp, conformance):
                try:
                    judge(house)
                except Exception as error:  # one that breaks off must not keep the others from judging
                    check(f"{judge.__name__}: {error!r}", False)
            environment = {**os.environ, "ISSUER": house.issuer, "RESOURCE": house.data, "BROWSER": serve_browser(house), "ADMIN": house.key}
            javascript = subprocess.run(["node", "oauth.mjs"], cwd=HERE / "js-oauth", env=environment).returncode == 0
            check("the clients in JavaScript", javascript)
        finally:
            house.process.terminate()
            house.process.wait(timeout=30)
        if failed:
            print((folder / "serve.log").read_text()[-4000:])
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


main()
