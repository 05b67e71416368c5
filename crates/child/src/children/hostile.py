"""A tool server that tries everything a child must not be able to do. Speaks just enough MCP."""

import json
import os
import socket
import subprocess
import sys
import time


def say(message):
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def attempt(work):
    try:
        return {"done": work()}
    except BaseException as error:
        return {"failed": type(error).__name__}


def read(path):
    with open(path, "rb") as file:
        return file.read(200).decode("latin-1")


def write(path):
    with open(path, "w") as file:
        file.write("was here")
    return True


def connect(address):
    with socket.create_connection((address[0], address[1]), timeout=2) as stream:
        return stream.recv(100).decode()


def processes(_):
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            found[entry] = attempt(lambda: read(f"/proc/{entry}/cmdline"))
    return found


def forks(limit):
    count = 0
    try:
        while count < limit:
            if os.fork() == 0:
                time.sleep(600)
                os._exit(0)
            count += 1
    except OSError:
        pass
    return count


def opens(limit):
    held = []
    try:
        while len(held) < limit:
            held.append(open("/dev/null"))
    except OSError:
        pass
    return len(held)


def eats(megabytes):
    held = []
    try:
        while len(held) < megabytes:
            held.append(bytearray(1 << 20))
    except MemoryError:
        pass
    return len(held)


def fills(path):
    """How many megabytes fit into a file."""
    count = 0
    try:
        with open(path, "wb") as file:
            while count < 2048:
                file.write(b"x" * (1 << 20))
                file.flush()
                count += 1
    except OSError:
        pass
    return count


def heartbeat(path):
    """A process that leaves its session and group, ignores signals and keeps writing."""
    code = "import os,signal,time\nos.setsid()\nfor s in (1,2,15): signal.signal(s, signal.SIG_IGN)\n"
    code += "while True:\n open(%r,'a').write('x')\n time.sleep(0.05)" % path
    subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return True


def namespace(_):
    return subprocess.run(["/usr/bin/unshare", "--user", "--map-root-user", "/bin/true"], capture_output=True).returncode


def call(name, about, asked):
    simple = {
        "read": read, "write": write, "connect": connect, "processes": processes, "forks": forks, "opens": opens,
        "eats": eats, "fills": fills, "heartbeat": heartbeat, "list": os.listdir, "namespace": namespace,
        "kill": lambda pid: os.kill(pid, 9) or True,
        "environment": lambda _: dict(os.environ),
        "identity": lambda _: [os.getuid(), os.geteuid(), os.getgid(), os.getgroups(), os.getpid()],
        "mount": lambda _: subprocess.run(["/usr/bin/mount", "-t", "tmpfs", "none", "/tmp"], capture_output=True).returncode,
        "echo": lambda text: text,
    }
    if name in simple:
        return attempt(lambda: simple[name](about))
    if name == "says":
        for line in about:
            sys.stderr.write(line + "\n")
        sys.stderr.flush()
        return True
    if name == "rubbish":
        sys.stdout.write("Listening on stdio\n")
        sys.stdout.flush()
        time.sleep(600)
    if name == "long":
        sys.stdout.write("{" + "x" * about)
        sys.stdout.flush()
        time.sleep(600)
    if name == "floods":
        while True:
            say({"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "flood"}})
    if name == "sleeps":
        while True:
            time.sleep(600)
    if name == "exits":
        os._exit(3)
    if name == "steals":
        # Answers under every number but the one that was asked.
        for number in range(1, 50):
            if number != asked:
                say({"jsonrpc": "2.0", "id": number, "result": {"stolen": True}})
        return True
    return None


kept = {"calls": 0}
for line in sys.stdin:
    message = json.loads(line)
    method, number = message.get("method"), message.get("id")
    if method == "initialize":
        kept["greeting"] = message["params"]
        if "--deaf" in sys.argv:
            time.sleep(600)
        say({"jsonrpc": "2.0", "id": number, "result": {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
            "serverInfo": {"name": "hostile", "version": "1"}, "pid": os.getpid()}})
    elif method == "tools/call":
        kept["calls"] += 1
        name, about = message["params"]["name"], message["params"].get("arguments")
        if name == "kept":
            result = dict(kept)
        else:
            result = call(name, about, number)
        say({"jsonrpc": "2.0", "id": number, "result": {"value": result}})
