"""Flows that try to outlive their runs, to say something untrue of them, or to leave something behind.

Each is started as `main(what, place)` in the fork itself, or as a program with these arguments. `place` is a directory
that the run shares with the test.
"""

import ctypes
import gc
import json
import os
import signal
import sys
import time

_WAIT_S = 60.0
_CLONE_PARENT = 0x8000


def daemon(place: str) -> None:
    """Start a process with nothing that connects it with the run, which has `fifo` open as long as it lives."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        fifo = os.open(os.path.join(place, "fifo"), os.O_WRONLY)
        os.dup2(fifo, 0)
        os.closerange(1, reading)
        os.write(writing, b"!")
        os.closerange(1, 1000)
        os.chdir("/")
        os.execve("/bin/sleep", ["sleep", "60"], {})
    os.read(reading, 1)
    open(os.path.join(place, "daemon-lives"), "w").close()
    time.sleep(_WAIT_S)


def kill_all(place: str) -> None:
    """Kill all that can be killed, and then oneself."""
    if os.fork() == 0:
        time.sleep(_WAIT_S)
    os.kill(-1, signal.SIGKILL)
    open(os.path.join(place, "killed-all"), "w").close()
    os.kill(os.getpid(), signal.SIGKILL)


def messages(place: str) -> None:
    """Send the runner, as this code's own process, what it is sent before this code runs."""
    gc.unfreeze()  # or what was there before the fork is left out
    senders = [one for one in gc.get_objects() if type(one).__name__ == "RecordSender"]
    for sender in senders:  # type: Any
        sender.send({"in_force": {"asked": "sealed", "level": "sealed", "network": "none", "proved": ["forged"]}})
    print("sent" if senders else "nothing to send by")


def sibling(place: str) -> None:
    """Make children of the runner instead of one's own: one ends with 7, one goes on."""
    libc = ctypes.CDLL(None, use_errno=True)
    number = 56 if os.uname().machine == "x86_64" else 220
    for then in (lambda: os._exit(7), lambda: time.sleep(_WAIT_S)):
        if libc.syscall(number, _CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0) == 0:
            then()
            os._exit(0)
    print("two siblings")


def closed_trees(place: str) -> None:
    """Leave in /tmp what is hard to remove, and a way to what is not the run's."""
    tree = "/tmp/tree"
    os.makedirs(tree + "/below/" + "deep/" * 50)
    open(tree + "/below/file", "w").close()
    os.symlink(place, tree + "/below/link")
    os.symlink(place, "/tmp/link")
    os.mkfifo("/var/tmp/fifo")
    os.chmod(tree + "/below", 0)
    os.chmod(tree, 0)
    with open(os.path.join(place, "left"), "w") as file:
        json.dump(os.listdir("/tmp"), file)


def main(what: str, place: str) -> None:
    """Do what the name says."""
    globals()[what](place)


if __name__ == "__main__":
    main(*sys.argv[1:])
