"""Batches and a mirror against a foreign S3-compatible store: the server of the Python package `moto`.

It honours If-None-Match and If-Match of writes, on which everything rests; it does not check signatures of requests. Installs what is
missing into target/venv.
"""

import os
import pathlib
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
REQUIREMENT = "moto[server]==5.2.5"


def run(*command, **options):
    print("+", " ".join(str(part) for part in command), flush=True)
    return subprocess.run([str(part) for part in command], check=True, **options)


def install():
    venv = ROOT / "target" / "venv"
    python = venv / "bin" / "python"
    if not python.exists():
        run(sys.executable, "-m", "venv", venv)
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", REQUIREMENT)
    return python


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def create_bucket(url, process):
    """The bucket that the tests use, as soon as the store answers."""
    deadline = time.monotonic() + 60
    while True:
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"the store did not start: is the Python package `{REQUIREMENT}` installed?")
        try:
            request = urllib.request.Request(f"{url}/ledger", method="PUT", headers={"Authorization": "AWS4-HMAC-SHA256 Credential=gate/20261120/us-east-1/s3/aws4_request"})
            urllib.request.urlopen(request, timeout=5).read()
            return
        except urllib.error.HTTPError as error:
            sys.exit(f"the store does not make a bucket: {error.code} {error.read().decode()}")
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)


def main():
    python = install()
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [str(python), "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        create_bucket(url, process)
        done = [
            subprocess.run(
                ["cargo", "test", "--locked", "--workspace", "--all-features", "--test", test, "foreign_store", "--", "--ignored"],
                cwd=ROOT,
                env={**os.environ, "BARTIZAN_TEST_S3": url},
                stdout=subprocess.PIPE,
                text=True,
            )
            for test in ["delivery", "house"]
        ]
    finally:
        process.kill()
        process.wait()
    for one in done:
        print(one.stdout)
    # No test that ran is no test that passed.
    passed = [f"{count} passed" in one.stdout and one.returncode == 0 for one, count in zip(done, [3, 1])]
    sys.exit(0 if all(passed) else 1)


main()
