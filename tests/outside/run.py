"""Foreign programs against a running house: official client libraries, and Go's log library on the ledger they left behind.

Installs what is missing: Python packages into target/venv, npm packages into tests/outside/js, Debian's Go by name.
"""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BINARY = ROOT / "target" / "debug" / "bartizan"
GO = pathlib.Path("/usr/lib/go-1.19/bin/go")


def run(*command, **options):
    print("+", " ".join(str(part) for part in command), flush=True)
    return subprocess.run([str(part) for part in command], check=True, **options)


def install():
    venv = ROOT / "target" / "venv"
    python = venv / "bin" / "python"
    if not python.exists():
        run(sys.executable, "-m", "venv", venv)
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", HERE / "requirements.txt")
    run("npm", "install", "--silent", "--no-audit", "--no-fund", "--no-package-lock", cwd=HERE / "js")
    modules = pathlib.Path("/usr/share/gocode/src/golang.org/x/mod/sumdb")
    if not (GO.exists() and modules.exists()):
        names = ["golang-1.19-go", "golang-1.19-src", "golang-golang-x-mod-dev"]
        if os.geteuid() != 0:
            sys.exit("missing programs; install them with: apt-get install -y " + " ".join(names))
        run("apt-get", "update", stdout=subprocess.DEVNULL)
        run("apt-get", "install", "-y", "--no-install-recommends", *names, stdout=subprocess.DEVNULL)
    return python


def start(folder):
    """A demo that stays up on free ports; gives the process and its variables."""
    env_file = folder / "demo.env"
    settings = {f"BARTIZAN_LISTENERS__{name}": "127.0.0.1:0" for name in ("DATA", "CONTROL", "OPERATIONS")}
    environment = {**os.environ, **settings, "TMPDIR": str(folder)}
    output = open(folder / "demo.log", "w")
    process = subprocess.Popen([str(BINARY), "demo", "--env-file", str(env_file)], env=environment, stdout=output, stderr=output)
    deadline = time.monotonic() + 60
    while "The house stays up" not in (folder / "demo.log").read_text():
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit("the demo did not start:\n" + (folder / "demo.log").read_text())
        time.sleep(0.1)
    pairs = (line[len("export "):].split("=", 1) for line in env_file.read_text().splitlines())
    return process, {name: value.strip("'") for name, value in pairs}


def newest_log(folder):
    found = sorted(folder.glob("bartizan-demo-*/log/default/*/checkpoint"))
    return found[-1].parent


def verified(program, log, key):
    return subprocess.run([str(program), str(log), key], capture_output=True, text=True)


def foreign_log(folder, log):
    program = folder / "verify"
    environment = {**os.environ, "GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOCACHE": str(folder / "gocache"), "GOFLAGS": ""}
    run(GO, "build", "-o", program, HERE / "go" / "verify.go", env=environment)
    key = (log / "key.vkey").read_text().strip()
    good = verified(program, log, key)
    print("go:", good.stdout.strip())
    passed, failed = (1, 0) if good.returncode == 0 else (0, 1)
    size = int((log / "checkpoint").read_text().splitlines()[1])
    assert size > 50, "the log is too small to show anything"
    for victim in ("entries", "0"):
        copy = folder / f"tampered-{victim}"
        shutil.copytree(log, copy)
        # The newest file of its kind is the one that the checkpoint speaks of.
        files = [path for path in (copy / "tile" / victim).rglob("*") if path.is_file()]
        for path in files:
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(data)
        refused = verified(program, copy, key)
        print(f"go on a copy with changed {victim}:", refused.stdout.strip())
        passed, failed = (passed + 1, failed) if refused.returncode == 1 else (passed, failed + 1)
    print(f"{passed} passed, {failed} failed")
    return failed == 0


def main():
    python = install()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        process, variables = start(folder)
        kept = folder / "log"
        try:
            environment = {**os.environ, **variables}
            ok = subprocess.run([str(python), str(HERE / "clients.py")], env=environment).returncode == 0
            ok &= subprocess.run(["node", "clients.mjs"], cwd=HERE / "js", env=environment).returncode == 0
            time.sleep(1.5)
            # Killed, not ended: what is sealed must verify all the same.
            process.send_signal(signal.SIGKILL)
            process.wait()
            shutil.copytree(newest_log(folder), kept)
        finally:
            process.kill()
        ok &= foreign_log(folder, kept)
    sys.exit(0 if ok else 1)


main()
