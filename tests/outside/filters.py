"""Policies as filters, asked of vector stores that run in Python: Chroma, and the `:memory:` mode of Qdrant's client.

Installs what is missing into target/venv. `BARTIZAN_FILTER_CASES` and `BARTIZAN_FILTER_SEED` make a longer run, or another one.
"""

import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
REQUIREMENTS = ["chromadb==1.5.9", "qdrant-client==1.20.0"]


def run(*command, **options):
    print("+", " ".join(str(part) for part in command), flush=True)
    return subprocess.run([str(part) for part in command], check=True, **options)


def install():
    venv = ROOT / "target" / "venv"
    python = venv / "bin" / "python"
    if not python.exists():
        run(sys.executable, "-m", "venv", venv)
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *REQUIREMENTS)
    return python


def main():
    python = install()
    environment = {**os.environ, "BARTIZAN_TEST_PYTHON": str(python)}
    tests = ["cargo", "test", "--locked", "--workspace", "--all-features", "--test", "filter", "--", "--ignored"]
    done = subprocess.run(tests, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    print(done.stdout)
    # A test that was renamed or is no longer there must not pass.
    sys.exit(0 if done.returncode == 0 and "3 passed" in done.stdout else 1)


main()
