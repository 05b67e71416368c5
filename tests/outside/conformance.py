"""The MCP conformance suite against the door, with conformance_server.py behind it. Run by tools.py.

Every check that fails must be listed here with its reason; one that is listed and passes must be taken off. So what passes never
becomes less unseen. The suite cannot log in: requests go through a proxy that puts the key in, and whose address is the house's
`listeners.public_url`, the one origin whose pages may speak.
"""

import asyncio
import json
import pathlib
import re
import subprocess
import tempfile
import threading

REVISIONS = {"2025-11-25": "conformance", "2026-07-28": "modern"}

TASKS = "tasks are not spoken here"

# scenario -> checks (by id; "*" for all of them) that fail, and why.
EXPECTED = {
    "2025-11-25": {},
    "2026-07-28": {
        "tasks-lifecycle": (["*"], TASKS),
        "tasks-capability-negotiation": (["*"], TASKS),
        "tasks-wire-fields": (["*"], TASKS),
        "tasks-request-state-removal": (["*"], TASKS),
        "tasks-mrtr-input": (["*"], TASKS),
        "tasks-request-headers": (["*"], TASKS),
        "tasks-dispatch-and-envelope": (["*"], TASKS),
        "tasks-required-task-error": (["*"], TASKS),
        "tasks-mrtr-composition": (["*"], TASKS),
    },
}
# How many checks pass at least: what is not run at all would not fail either.
PASSES = {"2025-11-25": 80, "2026-07-28": 146}


async def pump(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def carry(reader, writer, target):
    """One request a connection: its head gets the credential, the rest passes as it comes."""
    try:
        port, key = target
        head = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
        first, rest = head[0], [line for line in head[1:] if not line.lower().startswith(b"connection:")]
        ours = [f"Authorization: Bearer {key}".encode(), b"Connection: close"]
        there, back = await asyncio.open_connection("127.0.0.1", port)
        back.write(b"\r\n".join([first, *ours, *rest]))
        await asyncio.gather(pump(reader, back), pump(there, writer))
    except (OSError, ValueError, asyncio.IncompleteReadError):
        writer.close()


def proxy(target):
    """A port on which requests get the credential: `target` will hold the port that they go to, and the key."""
    ready, bound = threading.Event(), []

    async def serve():
        server = await asyncio.start_server(lambda r, w: carry(r, w, target), "127.0.0.1", 0)
        bound.append(server.sockets[0].getsockname()[1])
        ready.set()
        await server.serve_forever()

    threading.Thread(target=lambda: asyncio.run(serve()), daemon=True).start()
    ready.wait()
    return bound[0]


def outcome(node, suite, url, revision):
    """(scenario, check) -> status of every check of a revision's requirements."""
    with tempfile.TemporaryDirectory() as folder:
        command = [node, suite, "server", "--url", url, "--requirements", revision, "--output-dir", folder]
        subprocess.run([str(part) for part in command], capture_output=True, timeout=600)
        seen = {}
        for file in pathlib.Path(folder).rglob("checks.json"):
            scenario = re.sub(r"^server-(.*)-\d{4}-\d\d-\d\dT.*$", r"\1", file.parent.name)
            for check in json.loads(file.read_text()):
                known = seen.get((scenario, check["id"]))
                # Of several checks of one name the worst counts.
                if known != "FAILURE":
                    seen[scenario, check["id"]] = check["status"]
        return seen


def conform(node, suite, port):
    good = True
    for revision, server in REVISIONS.items():
        seen = outcome(node, suite, f"http://127.0.0.1:{port}/mcp/{server}", revision)
        failed = {place for place, status in seen.items() if status == "FAILURE"}
        passed = sum(status == "SUCCESS" for status in seen.values())
        expected = set()
        for scenario, (checks, _why) in EXPECTED[revision].items():
            some = {place for place in failed if place[0] == scenario}
            # All of a scenario: at least one fails, or it comes off the list.
            expected |= (some or {(scenario, "*")}) if checks == ["*"] else {(scenario, check) for check in checks}
        for place in sorted(failed - expected):
            print(f"FAIL conformance {revision}: {' '.join(place)}")
        for place in sorted(expected - failed):
            print(f"FAIL conformance {revision}: {' '.join(place)} passes: take it off the list")
        enough = passed >= PASSES[revision]
        if not enough:
            print(f"FAIL conformance {revision}: {passed} checks pass, {PASSES[revision]} did")
        good &= failed == expected and enough
        told = "as listed" if failed == expected else "not as listed"
        print(f"conformance {revision}: {passed} checks pass, {len(failed)} fail, {told}", flush=True)
    return good
