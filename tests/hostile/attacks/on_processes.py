"""Attacks on processes outside the run: by signals, tracing, limits and the files of /proc."""

import ctypes
import os
import re
import signal
import struct
from typing import Callable

import calls
from registry import Failed, Targets, attack, read

_PTRACE_PEEKDATA, _PTRACE_ATTACH, _PTRACE_DETACH = 2, 16, 17
_RLIMIT_CORE = 4
_ONES_OF_FLOWHERD = ("runner", "agent", "fork_server")


@attack("signal-process")
def signal_process(targets: Targets) -> str:
    os.kill(targets["bystander"], signal.SIGUSR1)
    return ""


@attack("signal-by-descriptor")
def signal_by_descriptor(targets: Targets) -> str:
    fd = calls.call(calls.PIDFD_OPEN, targets["bystander"], 0)
    calls.call(calls.PIDFD_SEND_SIGNAL, fd, signal.SIGUSR2, None, 0)
    return ""


@attack("signal-all")
def signal_all(targets: Targets) -> str:
    """One that nearly all programs ignore."""
    os.kill(-1, signal.SIGURG)
    return ""


@attack("signal-flowherd")
def signal_flowherd(targets: Targets) -> str:
    return _first(targets, lambda pid: os.kill(pid, signal.SIGURG) or "reached {}".format(pid))


@attack("signal-other-run")
def signal_other_run(targets: Targets) -> str:
    os.kill(targets["neighbour"], signal.SIGURG)
    return "reached"


@attack("see-command-line")
def see_command_line(targets: Targets) -> str:
    """Of any process that is not the run's: its argument is the proof."""
    return _command_line_in("/proc", targets)


@attack("see-through-second-proc")
def see_through_second_proc(targets: Targets) -> str:
    return _command_line_in(targets["second_proc"], targets)


def _command_line_in(place: str, targets: Targets) -> str:
    for name in os.listdir(place):
        if name.isdigit():
            try:
                text = read("{}/{}/cmdline".format(place, name))
            except OSError:
                continue
            if os.path.dirname(targets["work"]) + "/bystander" in text:
                return text
    raise Failed("no such process is to be seen")


@attack("read-environment")
def read_environment(targets: Targets) -> str:
    return read("/proc/{}/environ".format(targets["bystander"]))


@attack("read-environment-of-flowherd")
def read_environment_of_flowherd(targets: Targets) -> str:
    return _first(targets, lambda pid: read("/proc/{}/environ".format(pid)))


@attack("read-memory")
def read_memory(targets: Targets) -> str:
    with open("/proc/{}/mem".format(targets["bystander"]), "rb", 0) as file:
        file.seek(targets["secret_at"])
        return file.read(64).split(b"\0")[0].decode()


@attack("read-memory-by-call")
def read_memory_by_call(targets: Targets) -> str:
    local = ctypes.create_string_buffer(64)
    ours = struct.pack("PN", ctypes.addressof(local), 64)
    theirs = struct.pack("PN", targets["secret_at"], 64)
    calls.call(calls.PROCESS_VM_READV, targets["bystander"], ours, 1, theirs, 1, 0)
    return local.value.decode()


@attack("write-memory")
def write_memory(targets: Targets) -> str:
    local = ctypes.create_string_buffer(targets["own_id"].encode())
    ours = struct.pack("PN", ctypes.addressof(local), len(local))
    theirs = struct.pack("PN", targets["writable_at"], len(local))
    calls.call(calls.PROCESS_VM_WRITEV, targets["bystander"], ours, 1, theirs, 1, 0)
    return ""


@attack("trace")
def trace(targets: Targets) -> str:
    pid = targets["bystander"]
    calls.call(calls.PTRACE, _PTRACE_ATTACH, pid, 0, 0)
    try:
        os.waitpid(pid, 0x40000000)  # __WALL
        words = []
        for at in range(0, 64, 8):
            word = ctypes.c_long()
            calls.call(calls.PTRACE, _PTRACE_PEEKDATA, pid, targets["secret_at"] + at, ctypes.addressof(word))
            words.append(struct.pack("l", word.value))
        return b"".join(words).split(b"\0")[0].decode()
    finally:
        calls.call(calls.PTRACE, _PTRACE_DETACH, pid, 0, 0)


@attack("trace-flowherd")
def trace_flowherd(targets: Targets) -> str:
    def look(pid: int) -> str:
        with open("/proc/{}/mem".format(pid), "rb", 0):
            return "memory of {} is open".format(pid)

    return _first(targets, look)


@attack("descriptors-of-process")
def descriptors_of_process(targets: Targets) -> str:
    return read("/proc/{}/fd/{}".format(targets["bystander"], targets["secret_fd"]))


@attack("descriptors-of-flowherd")
def descriptors_of_flowherd(targets: Targets) -> str:
    return _first(targets, lambda pid: "{} has {}".format(pid, os.listdir("/proc/{}/fd".format(pid))))


@attack("take-descriptor")
def take_descriptor(targets: Targets) -> str:
    fd = calls.call(calls.PIDFD_OPEN, targets["bystander"], 0)
    return os.pread(calls.call(calls.PIDFD_GETFD, fd, targets["secret_fd"], 0), 200, 0).decode()


@attack("working-directory-of-process")
def working_directory_of_process(targets: Targets) -> str:
    return read("/proc/{}/cwd/secret".format(targets["bystander"]))


@attack("memory-of-first-process")
def memory_of_first_process(targets: Targets) -> str:
    """The run's own stub: a process that can trace it reaches all that it reaches."""
    if not targets["isolated"]:
        raise Failed("the first process is the host's")
    with open("/proc/1/mem", "rb", 0):
        return "open"


@attack("change-niceness")
def change_niceness(targets: Targets) -> str:
    os.setpriority(os.PRIO_PROCESS, targets["bystander"], os.getpriority(os.PRIO_PROCESS, targets["bystander"]) + 1)
    return ""


@attack("change-niceness-of-user")
def change_niceness_of_user(targets: Targets) -> str:
    """By user, which names no process: the priority of input and output, which does not slow a busy host's root."""
    calls.call(calls.IOPRIO_SET, 3, os.getuid(), (2 << 13) | (5 if targets["now"]["io"] & 7 != 5 else 6))
    return ""


@attack("change-affinity")
def change_affinity(targets: Targets) -> str:
    now = os.sched_getaffinity(targets["bystander"])
    os.sched_setaffinity(targets["bystander"], {min(now)} if len(now) > 1 else os.sched_getaffinity(0))
    return ""


@attack("change-limits")
def change_limits(targets: Targets) -> str:
    limits = ctypes.create_string_buffer(16)
    calls.call(calls.PRLIMIT64, targets["bystander"], _RLIMIT_CORE, None, limits)
    soft, hard = struct.unpack("QQ", limits.raw)
    calls.call(calls.PRLIMIT64, targets["bystander"], _RLIMIT_CORE, struct.pack("QQ", soft - 1, hard), None)
    return ""


@attack("limits-of-flowherd")
def limits_of_flowherd(targets: Targets) -> str:
    def set_again(pid: int) -> str:
        limits = ctypes.create_string_buffer(16)
        calls.call(calls.PRLIMIT64, pid, _RLIMIT_CORE, None, limits)
        calls.call(calls.PRLIMIT64, pid, _RLIMIT_CORE, limits.raw, None)
        return "limits of {} are set".format(pid)

    return _first(targets, set_again)


@attack("oom-score")
def oom_score(targets: Targets) -> str:
    path = "/proc/{}/oom_score_adj".format(targets["bystander"])
    score = int(read(path)) + 1
    with open(path, "w") as file:
        file.write(str(score))
    return ""


@attack("enter-namespaces")
def enter_namespaces(targets: Targets) -> str:
    """Of processes outside, by their files in /proc and by descriptors of processes."""
    spec = targets["spec"]
    for pid in (targets["runner"], targets["agent"], targets["bystander"], *([1] if targets["isolated"] else [])):
        for flags in (calls.NEWNS, calls.NEWUSER | calls.NEWNS):
            try:
                calls.call(calls.SETNS, calls.call(calls.PIDFD_OPEN, pid, 0), flags)
                return read(spec)
            except OSError:
                continue
    raise Failed("no namespace could be entered")


@attack("token-in-own-memory")
def token_in_own_memory(targets: Targets) -> str:
    """In all that this process may read of itself: a fork has its parent's memory."""
    start = targets["token_start"].encode()
    found = re.search(re.escape(start) + rb"[A-Za-z0-9_-]{20,}", read("/proc/self/environ").encode())
    if found:
        return found[0].decode()
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
        for line in maps:
            ends, mode = line.split()[:2]
            first, last = (int(end, 16) for end in ends.split("-"))
            if not mode.startswith("rw") or "[v" in line:
                continue
            memory.seek(first)
            try:
                found = re.search(re.escape(start) + rb"[A-Za-z0-9_-]{20,}", memory.read(last - first))
            except OSError:
                continue
            if found:
                return found[0].decode()
    raise Failed("no token in the memory")


def _first(targets: Targets, try_it: Callable[[int], str]) -> str:
    """Try it on runner, agent and fork server."""
    reasons = []
    for name in _ONES_OF_FLOWHERD:
        try:
            return try_it(targets[name])
        except OSError as error:
            reasons.append("{}: {}".format(name, error.strerror))
    raise Failed(", ".join(reasons))
