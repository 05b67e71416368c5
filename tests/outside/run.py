"""Foreign programs against a running house: official client libraries, and foreign verifiers on the ledger they left behind.
Foreign judges on the exports, and what has a house of its own, come first.

Installs what is missing: Python packages into target/venv, npm packages into tests/outside/js; the verifiers install theirs.
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


def people():
    """People in a real browser, at houses of their own: logging in, and verifying a receipt."""
    environment = {**os.environ, "BARTIZAN": str(BINARY), "CHROMIUM": shutil.which("chromium") or "chromium"}
    scripts = ["login.mjs", "receipt.mjs"]
    return all([subprocess.run(["node", script], cwd=HERE / "js", env=environment).returncode == 0 for script in scripts])


def newest_log(folder):
    found = sorted(folder.glob("bartizan-demo-*/log/default/*/checkpoint"))
    return found[-1].parent


def foreign_log(log):
    """Go's and a Python package's verifiers judge the log and tampered copies of it."""
    key = (log / "key.vkey").read_text().strip()
    size = int((log / "checkpoint").read_text().splitlines()[1])
    print(f"the ledger they left behind has {size} entries", flush=True)
    if size < 50:
        return False
    environment = {**os.environ, "FOREIGN_WORK": str(ROOT / "target" / "foreign")}
    return subprocess.run([sys.executable, str(ROOT / "tests" / "foreign" / "run.py"), str(log), key], env=environment).returncode == 0


def main():
    python = install()
    exports = subprocess.run([str(python), str(HERE / "ocsf.py")]).returncode == 0
    for script in ("children.py", "mesh.py", "applications.py", "sandbox.py", "dialects.py"):
        exports &= subprocess.run([str(python), str(HERE / script)]).returncode == 0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        process, variables = start(folder)
        kept = folder / "log"
        try:
            environment = {**os.environ, **variables}
            ok = subprocess.run([str(python), str(HERE / "clients.py")], env=environment).returncode == 0
            ok &= subprocess.run(["node", "clients.mjs"], cwd=HERE / "js", env=environment).returncode == 0
            ok &= subprocess.run([str(python), str(HERE / "contract.py")], env=environment).returncode == 0
            ok &= subprocess.run([str(python), str(HERE / "scim.py")], env=environment).returncode == 0
            ok &= people()
            time.sleep(1.5)
            # Killed, not ended: what is sealed must verify all the same.
            process.send_signal(signal.SIGKILL)
            process.wait()
            shutil.copytree(newest_log(folder), kept)
        finally:
            process.kill()
        ok &= foreign_log(kept)
    sys.exit(0 if ok and exports else 1)


main()
