"""Tool servers from npm as children of ours: installs them, and runs the tests of `bartizan-child` that need them."""

import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def main():
    environment = {**os.environ, "BARTIZAN_TEST_MCP": str(HERE / "js-children")}
    install = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--no-package-lock"]
    if subprocess.run(install, cwd=HERE / "js-children").returncode != 0:
        return False
    tests = ["cargo", "test", "--locked", "--workspace", "--all-features", "--test", "exchange", "--", "--ignored"]
    return subprocess.run(tests, cwd=ROOT, env=environment).returncode == 0


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
