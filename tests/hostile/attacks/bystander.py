"""A process of the flow's user that has nothing to do with the run: its secrets are to be had, and it records what is
done to it. Prints where to find them, and on each line of input what has happened.

    python bystander.py SECRET PLACE    PLACE has its files; the secret is an argument because those can be seen
"""

import ctypes
import json
import os
import pty
import resource
import select
import signal
import socket
import sys
import threading
from typing import Any

import calls


def main(secret: str, place: str) -> None:
    seen = []  # type: List[str]
    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGURG):
        signal.signal(number, lambda number, _frame: seen.append(signal.Signals(number).name))
    os.chdir(place)
    resource.setrlimit(resource.RLIMIT_CORE, (1 << 20, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    found = json.loads(os.environ["BYSTANDER"])  # type: Dict[str, Any]
    memory = ctypes.create_string_buffer(secret.encode(), 64)
    writable = ctypes.create_string_buffer(64)
    with open("secret", "w") as file:
        file.write(secret)
    unlinked = os.open("unlinked", os.O_RDWR | os.O_CREAT, 0o600)
    os.write(unlinked, secret.encode())
    os.unlink("unlinked")
    master, slave = pty.openpty()
    segment = calls.call(calls.SHMGET, os.getpid(), 64, 0o1600)
    libc = ctypes.CDLL(None)
    libc.shmat.restype = ctypes.c_void_p
    ctypes.memmove(libc.shmat(segment, None, 0), secret.encode(), len(secret))
    key_name = "flowherd-{}".format(os.getpid())
    calls.call(calls.KEYCTL, 0, -4, 1)  # makes the user's keyring, if there is none
    key = calls.call(calls.ADD_KEY, b"user", key_name.encode(), secret.encode(), len(secret), -4)
    for path in (found["tmp_file"], found["shm_file"]):
        with open(path, "w") as file:
            file.write(secret)
    tcp = _listener(socket.AF_INET, ("127.0.0.1", 0), secret)
    _listener(socket.AF_UNIX, "\0" + found["abstract"], secret)
    for path in found["sockets"].values():
        _listener(socket.AF_UNIX, path, secret)
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    received = []  # type: List[str]
    where = {
        "bystander": os.getpid(),
        "secret_at": ctypes.addressof(memory),
        "writable_at": ctypes.addressof(writable),
        "secret_fd": unlinked,
        "terminal": os.ttyname(slave),
        "shm_key": os.getpid(),
        "key_name": key_name,
        "tcp_port": tcp.getsockname()[1],
        "udp_port": udp.getsockname()[1],
    }
    print(json.dumps(where), flush=True)
    terminal = b""
    while True:
        readable, _, _ = select.select([0, udp, master], [], [], 0.1)
        sender.sendto(b"packet:" + secret.encode(), udp.getsockname())
        if udp in readable:
            received.append(udp.recv(1000).decode())
        if master in readable:
            terminal += os.read(master, 1000)
        if 0 in readable:
            if not sys.stdin.readline():
                break
            facts = {
                "signals": seen,
                "datagrams": [one for one in received if not one.startswith("packet:")],
                "terminal": terminal.decode("utf-8", "replace"),
                "memory": writable.value.decode(),
                "niceness": os.getpriority(os.PRIO_PROCESS, 0),
                "io": calls.call(calls.IOPRIO_GET, 1, 0),
                "processors": len(os.sched_getaffinity(0)),
                "core": resource.getrlimit(resource.RLIMIT_CORE)[0],
            }
            with open("/proc/self/oom_score_adj") as file:
                facts["oom_score_adj"] = int(file.read())
            print(json.dumps(facts), flush=True)
    calls.call(calls.KEYCTL, 9, key, -4)
    libc.shmctl(segment, 0, None)


def _listener(family: int, address: Any, secret: str) -> socket.socket:
    """Tell the secret to all that connect."""
    if family == socket.AF_UNIX and address[0] == "/":
        os.makedirs(os.path.dirname(address), exist_ok=True)
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.bind(address)
    listener.listen(5)

    def serve() -> None:
        while True:
            with listener.accept()[0] as connection:
                connection.sendall(secret.encode())

    threading.Thread(target=serve, daemon=True).start()
    return listener


main(*sys.argv[1:])
