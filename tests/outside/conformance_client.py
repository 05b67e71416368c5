"""The MCP conformance suite's servers behind the door: the house as a client of tool servers. Run by tools.py.

What fails must be listed here with its reason; what is listed and passes must be taken off.
"""

import json
import os
import pathlib
import shlex
import subprocess
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
# What the revisions require of clients, without `auth/`: a server's own word for where to get tokens is not followed. Credentials for
# servers are sealed, or come of an account that a person has connected at a provider that an administrator declared.
SCENARIOS = {
    "2025-11-25": ["initialize", "tools_call", "elicitation-sep1034-client-defaults", "sse-retry"],
    "2026-07-28": [
        "tools_call", "request-metadata", "sep-2322-client-request-state", "http-standard-headers", "http-custom-headers",
        "http-invalid-tool-headers", "json-schema-ref-no-deref",
    ],
}
BESIDE = "a question that a server asks beside its answer to a call belongs to no call that somebody was permitted, so it is not heard"
NULL = "the suite sends null where the tool's own schema says boolean, and arguments that are not as declared do not leave"
RESUMED = "an answer that a server breaks off is an error of that call: it is neither fetched again nor asked for again"
# (revision, scenario) -> checks (by id; "*" for all that fail, at least one), and why.
EXPECTED = {
    ("2025-11-25", "elicitation-sep1034-client-defaults"): (["*"], BESIDE),
    ("2025-11-25", "sse-retry"): (["client-sse-graceful-reconnect"], RESUMED),
    ("2026-07-28", "http-custom-headers"): (["sep-2243-client-omit-null"], NULL),
}


def outcome(node, suite, python, environment, scenario, revision):
    """check -> status of a scenario; the worst of several of one name."""
    with tempfile.TemporaryDirectory() as folder:
        through = shlex.join([str(python), str(HERE / "conformance_through.py")])
        command = [node, suite, "client", "--command", through, "--scenario", scenario, "--spec-version", revision, "--timeout", "120000", "--output-dir", folder]
        told = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300, env=environment)
        seen = {}
        for file in pathlib.Path(folder).rglob("checks.json"):
            for check in json.loads(file.read_text()):
                known, status = seen.get(check["id"]), check["status"]
                if known != "FAILURE" and not (known == "SUCCESS" and status != "FAILURE"):
                    seen[check["id"]] = status
                if check["status"] == "FAILURE" and os.environ.get("BARTIZAN_CONFORMANCE_TOLD"):
                    print(f"     {scenario} {check['id']}: {check.get('errorMessage', '')[:300]}")
        if os.environ.get("BARTIZAN_CONFORMANCE_TOLD"):
            told_there = [file.read_text()[-1500:] for file in pathlib.Path(folder).rglob("std*.txt")]
            print(told.stdout[-1500:], told.stderr[-1500:], *told_there)
        return seen


def conform_as_client(node, suite, python, house, key):
    environment = {**os.environ, "HOUSE_CONTROL": house.control, "HOUSE_DATA": house.data, "HOUSE_ADMIN": house.admin, "HOUSE_KEY": key}
    good = True
    for revision, scenarios in SCENARIOS.items():
        passed = 0
        for scenario in scenarios:
            seen = outcome(node, suite, python, environment, scenario, revision)
            failed = {check for check, status in seen.items() if status == "FAILURE"}
            checks, _why = EXPECTED.get((revision, scenario), ([], ""))
            expected = (failed or {"*"}) if checks == ["*"] else set(checks)
            some = sum(status == "SUCCESS" for status in seen.values())
            passed += some
            for check in sorted(failed - expected):
                print(f"FAIL conformance as a client {revision}: {scenario} {check}")
            for check in sorted(expected - failed):
                print(f"FAIL conformance as a client {revision}: {scenario} {check} passes: take it off the list")
            # What saw nothing shows nothing.
            if not some and not failed:
                print(f"FAIL conformance as a client {revision}: {scenario} saw nothing")
            good &= failed == expected and (some > 0 or bool(failed))
        print(f"conformance as a client {revision}: {passed} checks pass", flush=True)
    return good
