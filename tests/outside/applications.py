"""The example applications of `clients/` against a real house, and LangChain's own retrievers and tools behind policy; with the tests of
the packages themselves.
"""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request

from house import ROOT, House, Tally, check, free_port, until

CLIENTS = ROOT / "clients"
EXAMPLE = CLIENTS / "python" / "example"
sys.path[:0] = [str(CLIENTS / "python" / "src"), str(EXAMPLE)]
ADMINISTRATORS = """
@id("administrators-run-the-house")
permit (principal in Role::"administrator", action in [Action::"house:change", Action::"house:read"], resource);
"""


def run(*command, **options):
    return subprocess.run([str(part) for part in command], **options).returncode == 0


def packages():
    """Their own tests, and that the Python package installs and is typed."""
    python = CLIENTS / "python"
    check("python: its tests", run(sys.executable, "-m", "pytest", "-q", cwd=python))
    check("python: its types", run(sys.executable, "-m", "mypy", "--strict", "src", cwd=python))
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(python, f"{folder}/package", ignore=shutil.ignore_patterns("*.egg-info", ".*cache", "build"))
        built = run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", f"{folder}/at", f"{folder}/package")
        check("python: it installs", built and pathlib.Path(folder, "at/bartizan/py.typed").exists())
    typescript = CLIENTS / "typescript"
    installed = run("npm", "install", "--silent", "--no-audit", "--no-fund", "--no-package-lock", cwd=typescript)
    check("typescript: its tests and types", installed and run("npm", "test", cwd=typescript))


def shop(house):
    """People and things of the shop; gives the key that its application asks with."""
    files = {name: (EXAMPLE / path).read_text() for name, path in [("policy.cedar", "policy.cedar"), ("schema/shop.cedarschema", "schema.cedarschema")]}
    files["policy.cedar"] += ADMINISTRATORS
    house.call("PUT", "/api/v1/policy", {"files": files, "expect": 1})

    def entity(kind, name, *roles):
        return (f"{kind}-{name}", {"kind": "entity", "type": f"Shop::{kind}", "id": name, "parents": [f"Shop::role::{role}" for role in roles]})

    workload = {"kind": "workload", "owner": "ada", "purpose": "shows orders", "roles": ["enforcement-point"]}
    point = {"kind": "enforcement_point", "workload": "shop", "namespace": "Shop", "applies": ["redact"]}
    things = [("order", "small"), ("order", "large"), ("document", "manual"), ("document", "salaries"), ("tool", "lookup"), ("tool", "erase")]
    people = [entity("role", "clerk"), entity("role", "manager"), entity("person", "kim", "clerk"), entity("person", "max", "clerk", "manager")]
    house.declare([("enforcement-point", {"kind": "role"}), ("shop", workload), ("shop", point), *people, *(entity(*thing) for thing in things)])
    return house.new_key("shop", "workload")


def application(name, start, house, key):
    """Starts an example application and asks it as its users would."""
    port = free_port()
    users = {"kim's": "kim", "max's": "max"}
    environment = {**os.environ, "BARTIZAN_URL": house.data, "BARTIZAN_API_KEY": key["text"], "EXAMPLE_USERS": json.dumps(users)}
    process = subprocess.Popen([str(part) for part in start(port)], cwd=CLIENTS / name, env=environment)

    def ask(token, path, method="GET"):
        headers = {"authorization": f"Bearer {token}"} if token else {}
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers, method=method)
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"{}")

    try:
        until(lambda: socket.create_connection(("127.0.0.1", port)).close(), process)
        check(f"{name}: who may, sees it", ask("kim's", "/orders/large") == (200, {"id": "large", "note": "-"}), ask("kim's", "/orders/large"))
        check(f"{name}: an obligation is applied", ask("kim's", "/orders/small") == (200, {"id": "small"}), ask("kim's", "/orders/small"))
        check(f"{name}: who may not, does not", ask("kim's", "/orders/large", "DELETE")[0] == 403)
        check(f"{name}: who may do more, does", ask("max's", "/orders/large", "DELETE")[0] == 200)
        for token, path in [(None, "/orders/large"), ("nobody's", "/orders/large"), ("kim's", "/")]:
            check(f"{name}: {token} at {path} is refused", ask(token, path)[0] == 403, ask(token, path))
        check(f"{name}: what is not there, is not there", ask("kim's", "/orders/none")[0] == 404)
        return ask, process
    except BaseException:
        process.kill()
        raise


def langchain(house, key):
    """What a model asks for through LangChain's own interfaces."""
    from bartizan import Client
    from langchain_core.documents import Document
    from langchain_core.retrievers import BaseRetriever
    from langchain_core.tools import tool
    from langchain_tools import GuardedRetriever, guarded

    class Everything(BaseRetriever):
        def _get_relevant_documents(self, query, *, run_manager):
            return [Document(id="manual", page_content="m"), Document(id="salaries", page_content="s"), Document(page_content="nobody knows which")]

    ran = []

    @tool
    def lookup(item: str) -> str:
        """Look something up."""
        ran.append(item)
        return f"{item} is there"

    @tool
    def erase(item: str) -> str:
        """Erase something."""
        ran.append(item)
        return "erased"

    client, kim = Client(house.data, key["text"]), ("person", "kim")
    ids = lambda who, asked=client: [one.id for one in GuardedRetriever(inner=Everything(), client=asked, subject=("person", who)).invoke("everything")]
    check("langchain: a retriever gives what its caller may read, and nothing without a name", ids("kim") == ["manual"], ids("kim"))
    check("langchain: and nothing to others", ids("nobody") == [], ids("nobody"))
    call = lambda of, **arguments: guarded(of, client, kim).invoke({"args": arguments, "id": "1", "name": of.name, "type": "tool_call"})
    check("langchain: a tool runs that may", call(lookup, item="a").content == "a is there" and ran == ["a"], ran)
    told = call(erase, item="b")
    check("langchain: one that may not does not", ran == ["a"] and told.status == "error", told)
    gone = Client("http://127.0.0.1:1", key["text"])
    check("langchain: nobody to ask, nothing found", ids("kim", gone) == [])
    guarded(lookup, gone, kim).invoke({"item": "c"})
    check("langchain: nobody to ask, nothing run", ran == ["a"])


def main():
    packages()
    with tempfile.TemporaryDirectory() as name:
        house = House(pathlib.Path(name))
        key = shop(house)
        applications = {
            "python": lambda port: [sys.executable, "-m", "uvicorn", "--app-dir", "example", "--log-level", "warning", "--port", port, "app:app"],
            "typescript": lambda port: ["node", "example/server.mjs", port],
        }
        os.environ["PYTHONPATH"] = str(CLIENTS / "python" / "src")
        running = [(which, *application(which, start, house, key)) for which, start in applications.items()]
        langchain(house, key)
        house.call("POST", f"/api/v1/keys/{key['id']}/revoke")
        for which, ask, _ in running:
            check(f"{which}: its own key was revoked a moment ago", ask("kim's", "/orders/large")[0] == 503)
        house.process.kill()
        house.process.wait()
        for which, ask, process in running:
            check(f"{which}: closed while the house is down", ask("kim's", "/orders/large")[0] == 503)
            process.kill()
    print(f"applications: {Tally.passed} passed, {Tally.failed} failed")
    sys.exit(1 if Tally.failed or not Tally.passed else 0)


main()
