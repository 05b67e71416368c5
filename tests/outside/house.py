"""A house of its own for tests against foreign programs, and how they count."""

import atexit
import json
import os
import pathlib
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BINARY = pathlib.Path(os.environ.get("BARTIZAN_BINARY", ROOT / "target" / "debug" / "bartizan"))


class Tally:
    passed, failed = 0, 0


def check(what, holds, told=""):
    Tally.passed, Tally.failed = Tally.passed + bool(holds), Tally.failed + (not holds)
    print(("ok   " if holds else "FAIL ") + what + ("" if holds else f": {told}"), flush=True)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def until(work, process):
    """What `work` gives, as soon as it gives something, and `process` lives."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return work()
        except (urllib.error.URLError, ConnectionError, AssertionError):
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


class House:
    """A running house with an authority and an administrator."""

    def __init__(self, folder, **more):
        ports = [free_port() for _ in range(3)]
        self.data, self.issuer = (f"http://127.0.0.1:{port}" for port in ports[:2])
        names = ("LISTENERS__DATA", "LISTENERS__CONTROL", "LISTENERS__OPERATIONS")
        settings = {name: f"127.0.0.1:{port}" for name, port in zip(names, ports)}
        settings |= {"DATA__FOLDER": str(folder / "data"), "AUTHORITY__ISSUER": self.issuer, **more}
        self.environment = {**os.environ, **{f"BARTIZAN_{name}": value for name, value in settings.items()}}
        told = subprocess.run([str(BINARY), "init"], env=self.environment, check=True, capture_output=True, text=True).stdout
        claim = re.search(r"^\s+(\S*clm\S*|bzn\S*|\S{40,})$", told.split("one use:")[1], re.M).group(1)
        self.key = None
        self.log = open(folder / "serve.log", "w")
        self.serve()
        self.key = until(lambda: self.call("POST", "/api/v1/claim", {"claim": claim, "name": "ada"}), self.process)["key"]["text"]

    def serve(self):
        self.process = subprocess.Popen([str(BINARY), "serve"], env=self.environment, stdout=self.log, stderr=self.log)
        atexit.register(self.process.kill)

    def call(self, method, path, body=None):
        headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {self.key}"} if self.key else {})
        data = None if body is None else json.dumps(body).encode()
        try:
            with urllib.request.urlopen(urllib.request.Request(self.issuer + path, data, headers, method=method)) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise SystemExit(f"{method} {path}: {error.read().decode()}") from error

    def declare(self, documents):
        """Applies `(name, spec)` pairs."""
        self.call("POST", "/api/v1/resources", [{"name": name, "spec": spec} for name, spec in documents])

    def new_key(self, name, kind="user"):
        return self.call("POST", "/api/v1/keys", {"principal_kind": kind, "principal": name})
