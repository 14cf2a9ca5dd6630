"""The user's code of the kit's runs. It uses the standard library only, because it also runs as a command.

Each run appends to its own file of facts: what is in it is true, whatever flowherd reports.

    start PID TICKS RUNNER_PID RUNNER_TICKS     user code was started; on the disk at once
                                                0 0 for a runner that it cannot see (pid_namespaces(7))
    line N                                      line N was printed before
    child PID TICKS                             a process that tries to outlive the run
    end HOW                                     the end comes next: ok, code, raise or hang
"""

import json
import logging
import os
import sys
import time
from pathlib import Path

#: Number of lines that a quick run prints before each line that counts.
QUICK_LINES = 300


def main(facts, ending, seconds, lines, child, logger=None):
    path = facts + "/" + os.environ["FLOWHERD_FLOW_RUN_ID"]
    runner = os.getppid()
    note(
        path, "start {} {} {} {}".format(os.getpid(), ticks("self"), runner, ticks(runner) if runner else 0), sync=True
    )
    if child != "none":
        leave_behind(path, child)
    # Such runs print quickly, so that their lines take the way through shared memory, and their logs that as bytes.
    is_quick = lines % 3 == 0 and os.environ.get("KIT_KIND") != "command"
    for number in range(lines):
        text = f"line {number}"
        if number % 5 == 4 and os.environ.get("KIT_KIND") != "command":
            (logger or logging.getLogger("kit")).warning(text)
        else:
            for more in range(QUICK_LINES if is_quick else 0):
                print(f"quick {number}.{more}")
            print(text, flush=not is_quick)
        note(path, text)
        time.sleep(seconds / lines)
    note(path, "end " + ending)
    if ending == "code":
        sys.exit(3)
    if ending == "raise":
        raise ValueError("as planned")
    if ending == "hang":
        time.sleep(600)


def note(path, fact, sync=False):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(fd, (fact + "\n").encode())
    if sync:
        os.fsync(fd)
    os.close(fd)


def ticks(pid):
    return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])


def leave_behind(path, kind):
    """Start a grandchild in a session of its own: a mere fork, or another program."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            note(path, "child {} {}".format(os.getpid(), ticks("self")))
            if kind == "program":
                os.execv("/bin/sleep", ["sleep", "600"])
            time.sleep(600)
        os._exit(0)
    os.wait()


if __name__ == "__main__":
    main(**json.loads(os.environ.get("KIT_PARAMETERS") or os.environ["FLOWHERD_PARAMETERS"]))
