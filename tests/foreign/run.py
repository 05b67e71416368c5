#!/usr/bin/env python3
"""Has implementations that are not ours verify a log folder, and requires that they refuse it once it is tampered with.

    run.py LOGDIR VKEY [--old CHECKPOINT] [--fork LOGDIR] [--own BINARY]
    run.py --make-log BINARY [--own BINARY]

The first form verifies one log; --old is an earlier checkpoint of it, --fork another log under the same key that departs
from it. The second makes logs at the sizes where trees and tiles change their shape (BINARY is the example `make_log` of
the crate `ledger`) and verifies each, also against every earlier checkpoint and against a fork. --own has our own verifier
judge the same folders.

Verifiers: Go's golang.org/x/mod/sumdb and the Python package aics-tlog. What is missing is installed: Debian packages
(as root) and a virtual environment, kept in the folder named by FOREIGN_WORK or else made anew. Prints a line for each
check; the exit code is 0 only if all agree. Python 3.11, standard library only.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
GO = Path("/usr/lib/go-1.19/bin/go")
GO_MODULES = Path("/usr/share/gocode")
DEBIAN = ["golang-golang-x-mod-dev", "golang-1.19-go", "golang-1.19-src"]
AICS = "aics-tlog==0.2.1"
SIZES = [0, 1, 2, 255, 256, 257, 65_535, 65_536, 65_537, 70_000]


def run(*command, **options):
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL, **options)


def go_verifier(work):
    if not GO.exists() or not (GO_MODULES / "src/golang.org/x/mod/sumdb/tlog").exists():
        run("apt-get", "update")
        run("apt-get", "install", "--yes", "--no-install-recommends", *DEBIAN)
    binary = work / "go-verify"
    settings = {"GO111MODULE": "off", "GOPATH": str(GO_MODULES), "GOCACHE": str(work / "go-cache"), "GOFLAGS": ""}
    run(GO, "build", "-o", binary, HERE / "go/verify.go", env={**os.environ, **settings})
    return lambda folder, vkey, old: [binary, folder, vkey, *old]


def python_verifier(work):
    python, package = work / "venv/bin/python", work / "aics-tlog"
    if not package.exists():
        venv.create(work / "venv", with_pip=True)
        pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        run(*pip, "install", "cryptography")
        # The package asks for Python 3.12 but runs under 3.11: unpacked, not installed.
        run(*pip, "download", "--no-deps", "--only-binary=:all:", "--python-version=3.12", "--dest", work, AICS)
        wheel = next(work.glob("aics_tlog-*.whl"))
        zipfile.ZipFile(wheel).extractall(work / "unpacking")
        (work / "unpacking").rename(package)
    script = [python, HERE / "python_verify.py"]
    return lambda folder, vkey, old: ["env", f"PYTHONPATH={package}", *script, folder, vkey, *old]


def own_verifier(binary):
    return lambda folder, vkey, old: [
        binary, "log", folder, "--key", vkey, *[part for path in old for part in ("--old", path)],
    ]


class Judges:
    """The verifiers and the count of their mistakes."""

    def __init__(self, verifiers):
        self.verifiers = verifiers
        self.checks = 0
        self.wrong = 0

    def check(self, what, good, folder, vkey, old=None):
        """Has each verifier judge `folder`, which is good or not."""
        for name, command in self.verifiers.items():
            arguments = [str(part) for part in command(folder, vkey, [old] if old else [])]
            done = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
            # A crash is no judgement: refusing is exit code 1 and nothing else.
            right = done.returncode == (0 if good else 1)
            self.checks += 1
            self.wrong += not right
            verdict = {0: "accepts", 1: "refuses"}.get(done.returncode, f"fails with {done.returncode} on")
            reason = (done.stdout.strip().splitlines() or [""])
            shown = next((line for line in reason if line.startswith("FAIL")), reason[-1])[:120] if done.returncode else ""
            print(f"{'ok   ' if right else 'WRONG'} {name:6} {verdict} {what}{': ' if shown else ''}{shown}", flush=True)


def flip(at):
    def change(data):
        at_byte = at % len(data)
        return data[:at_byte] + bytes([data[at_byte] ^ 1]) + data[at_byte + 1 :]

    return change


def other_entry(data):
    """A bundle whose first entry is another one of the same length."""
    length = int.from_bytes(data[:2], "big")
    entry = bytearray(data[2 : 2 + length])
    entry[length // 2] ^= 1
    return data[:2] + bytes(entry) + data[2 + length :]


def tamperings(log):
    """What is done to a log: a name, and for each file concerned what is done to it (None deletes it)."""
    size = int((log / "checkpoint").read_text().split("\n")[1])
    yield "a checkpoint with another size", {"checkpoint": lambda d: d.replace(f"\n{size}\n".encode(), b"\n3\n", 1)}
    yield "a checkpoint with another root", {"checkpoint": lambda d: flip(d.index(b"\n\n") - 10)(d)}
    yield "a checkpoint with another signature", {"checkpoint": flip(-10)}
    yield "a checkpoint without signature", {"checkpoint": lambda d: d[: d.index(b"\n\n") + 2]}
    yield "no checkpoint", {"checkpoint": None}
    bundles = sorted(now(log, "entries", size))
    levels = [sorted(now(log, str(level), size)) for level in range(8)]
    for files in filter(None, [bundles, *levels]):
        for path in sorted({files[0], files[len(files) // 2], files[-1]}):
            yield f"{path} with its first byte flipped", {path: flip(2 if "entries" in path else 0)}
            yield f"{path} with its last byte flipped", {path: flip(-1)}
            yield f"{path} cut", {path: lambda d: d[:-1]}
            yield f"{path} deleted", {path: None}
    # A bundle and the tile of its leaf hashes, made to fit each other: only what lies above them tells.
    for bundle in sorted({bundles[0], bundles[len(bundles) // 2], bundles[-1]} if bundles else set()):
        forged = other_entry((log / bundle).read_bytes())
        entry = forged[2 : 2 + int.from_bytes(forged[:2], "big")]
        leaf = hashlib.sha256(b"\0" + entry).digest()
        tile = bundle.replace("tile/entries/", "tile/0/")
        yield f"another entry in {bundle} with its leaf hash", {
            bundle: lambda _, forged=forged: forged,
            tile: lambda d, leaf=leaf: leaf + d[32:],
        }


def now(log, level, size):
    """The files of a level that a log of this size needs; partial ones of earlier sizes are not looked at by all."""
    count = size if level == "entries" else size >> (8 * int(level))
    for path in (log / "tile" / level).rglob("*") if count else []:
        name = path.relative_to(log).as_posix()
        if path.is_file() and (".p/" not in name or name.endswith(f".p/{count % 256}") and is_last(name, count)):
            yield name


def is_last(name, count):
    index = name.split("/", 2)[2].split(".p/")[0]
    return int(index.replace("x", "").replace("/", "")) == count // 256


def verify_log(judges, log, vkey, old=None, fork=None):
    judges.check("the log", True, log, vkey)
    if old:
        judges.check("the log as grown from the older checkpoint", True, log, vkey, old)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "log"
        shutil.copytree(log, copy)
        for what, changes in tamperings(log):
            for name, change in changes.items():
                if change is None:
                    (copy / name).unlink()
                else:
                    (copy / name).write_bytes(change((log / name).read_bytes()))
            judges.check(what, False, copy, vkey)
            for name in changes:
                shutil.copy(log / name, copy / name)
        judges.check("the copy after everything was put back", True, copy, vkey)
    if fork:
        judges.check("the fork by itself", True, fork, vkey)
        judges.check("the fork against the log's checkpoint", False, fork, vkey, log / "checkpoint")
        with tempfile.TemporaryDirectory() as folder:
            mixed = Path(folder) / "log"
            shutil.copytree(fork, mixed)
            shutil.copy(log / "checkpoint", mixed / "checkpoint")
            judges.check("the fork's files under the log's checkpoint", False, mixed, vkey)


def verify_sizes(judges, make_log):
    with tempfile.TemporaryDirectory() as folder:
        log, earlier = Path(folder) / "log", []
        for size in SIZES:
            made = subprocess.run([make_log, log, str(size)], check=True, stdout=subprocess.PIPE, text=True)
            vkey = made.stdout.strip()
            print(f"-- {size} entries", flush=True)
            fork = None
            if size:
                fork = Path(folder) / f"fork-{size}"
                run(make_log, fork, size, size // 2)
            verify_log(judges, log, vkey, fork=fork)
            for old in earlier:
                judges.check(f"the log as grown from {old.name}", True, log, vkey, old)
            kept = Path(folder) / f"{size} entries"
            shutil.copy(log / "checkpoint", kept)
            if earlier:
                shorter = Path(folder) / "shorter"
                run(make_log, shorter, int(earlier[-1].name.split()[0]))
                judges.check("a log rolled back from here", False, shorter, vkey, kept)
            earlier.append(kept)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", nargs="?", type=Path)
    parser.add_argument("vkey", nargs="?")
    parser.add_argument("--old", type=Path)
    parser.add_argument("--fork", type=Path)
    parser.add_argument("--make-log", type=Path)
    parser.add_argument("--own", type=Path)
    args = parser.parse_args()
    if bool(args.make_log) == bool(args.log and args.vkey):
        parser.error("either LOGDIR and VKEY, or --make-log")
    with tempfile.TemporaryDirectory() as made_anew:
        work = Path(os.environ.get("FOREIGN_WORK", made_anew)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        verifiers = {"go": go_verifier(work), "python": python_verifier(work)}
        if args.own:
            verifiers["own"] = own_verifier(args.own.resolve())
        judges = Judges(verifiers)
        if args.make_log:
            verify_sizes(judges, args.make_log.resolve())
        else:
            verify_log(judges, args.log.resolve(), args.vkey, args.old, args.fork)
    print(f"{judges.checks} judgements, {judges.wrong} wrong")
    return 1 if judges.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
