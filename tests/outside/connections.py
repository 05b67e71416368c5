"""How the house is a client of others' authorization servers, judged by the MCP conformance suite (its `client` mode, suite `auth`).

The suite starts a tool server and an authorization server for each scenario and calls `bartizan connection try` with the address:
the very code that connects accounts. Needs the npm packages of tests/outside/js-oauth.
"""

import concurrent.futures
import json
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BINARY = pathlib.Path(os.environ.get("BARTIZAN_BINARY", ROOT / "target" / "debug" / "bartizan"))
MODULES = pathlib.Path(os.environ.get("BARTIZAN_NODE_MODULES", HERE / "js-oauth" / "node_modules"))
DOCUMENT = "https://conformance-test.local/client-metadata.json"

# What the specification's revisions 2025-06-18 to 2026-07-28 ask of every client.
SCENARIOS = """
metadata-default metadata-var1 metadata-var2 metadata-var3 basic-cimd scope-from-www-authenticate scope-from-scopes-supported
scope-omitted-when-undefined scope-step-up scope-retry-limit token-endpoint-auth-basic token-endpoint-auth-post
token-endpoint-auth-none pre-registration 2025-03-26-oauth-metadata-backcompat resource-mismatch offline-access-scope
offline-access-not-supported authorization-server-migration iss-supported iss-not-advertised iss-supported-missing
iss-wrong-issuer iss-unexpected iss-normalized metadata-issuer-mismatch
""".split()

# Not spoken, and said so in docs/connections.md: extensions beyond people's accounts, and servers that describe nothing at all, of
# which nobody could know that they support PKCE.
NOT_SPOKEN = """
2025-03-26-oauth-endpoint-fallback client-credentials-jwt client-credentials-basic enterprise-managed-authorization dpop dpop-nonce
wif-jwt-bearer
""".split()


def act_as_client(url):
    """What the suite runs: its scenario comes by the environment, our arguments do not."""
    scenario = os.environ.get("MCP_CONFORMANCE_SCENARIO", "").removeprefix("auth/")
    context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT") or "{}")
    command = [str(BINARY), "connection", "try", url, "--allow-private", "--follow", "--client-document", DOCUMENT]
    if scenario not in ("scope-omitted-when-undefined",):
        command += ["--call", "test-tool"]
    with tempfile.NamedTemporaryFile("w", suffix=".secret") as secret:
        if context.get("client_id"):
            command += ["--client-id", context["client_id"]]
        if context.get("client_secret"):
            secret.write(context["client_secret"])
            secret.flush()
            command += ["--client-secret-file", secret.name]
        sys.exit(subprocess.run(command).returncode)


def judge(scenario):
    node = MODULES / "node" / "bin" / "node"
    suite = MODULES / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
    client = shlex.join([sys.executable, str(pathlib.Path(__file__).resolve()), "--as-client"])
    with tempfile.TemporaryDirectory() as results:
        command = [str(node), str(suite), "client", "--command", client, "--scenario", f"auth/{scenario}", "-o", results]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return scenario, done.returncode == 0, done.stdout + done.stderr


def main():
    if sys.argv[1:2] == ["--as-client"]:
        act_as_client(sys.argv[-1])
    wanted = sys.argv[1:] or SCENARIOS
    bad = 0
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for scenario, passed, told in pool.map(judge, wanted):
            print(("ok   " if passed else "FAIL ") + scenario, flush=True)
            bad += not passed
            if not passed:
                print(told[-6000:])
    print(f"{len(wanted) - bad} of {len(wanted)} scenarios passed; {len(NOT_SPOKEN)} are not spoken: {' '.join(NOT_SPOKEN)}")
    sys.exit(1 if bad else 0)


main()
