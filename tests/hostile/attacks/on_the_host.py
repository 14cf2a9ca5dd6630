"""Attacks on the kernel's settings, on cgroups, terminals and what processes of a host share without files."""

import ctypes
import errno
import json
import os
import stat
import struct

import calls
from registry import Failed, Targets, attack, read, write


@attack("core-pattern")
def core_pattern(targets: Targets) -> str:
    """The program that the kernel runs when a process crashes; the same text is written again."""
    path = "/proc/sys/kernel/core_pattern"
    text = read(path)
    with open(path, "w") as file:
        file.write(text)
    return "written"


@attack("kernel-trigger")
def kernel_trigger(targets: Targets) -> str:
    """Opening it is enough: a letter would reboot the host."""
    os.close(os.open("/proc/sysrq-trigger", os.O_WRONLY))
    return "open"


@attack("kernel-memory")
def kernel_memory(targets: Targets) -> str:
    for path in ("/proc/kcore", "/dev/mem", "/dev/kmem", "/dev/port"):
        try:
            os.close(os.open(path, os.O_RDONLY))
        except OSError:
            continue
        return path
    raise Failed("no file has it")


@attack("kernel-log")
def kernel_log(targets: Targets) -> str:
    os.close(os.open("/dev/kmsg", os.O_WRONLY))
    return "open for writing"


@attack("load-module")
def load_module(targets: Targets) -> str:
    """An empty one, which nobody can load; only the reason differs."""
    try:
        calls.call(calls.INIT_MODULE, b"", 0, b"")
    except OSError as error:
        if error.errno in (errno.EPERM, errno.ENOSYS):
            raise
        return "only its content was wrong: {}".format(error)
    return "loaded"


@attack("set-host-name")
def set_host_name(targets: Targets) -> str:
    """To what it is."""
    name = os.uname()[1].encode()
    calls.call(calls.SETHOSTNAME, name, len(name))
    return "set"


@attack("watch-whole-host")
def watch_whole_host(targets: Targets) -> str:
    """Performance events of all processes on a processor."""
    attributes = ctypes.create_string_buffer(struct.pack("IIQ", 1, 112, 0), 112)
    calls.call(calls.PERF_EVENT_OPEN, attributes, -1, 0, -1, 0)
    return "open"


@attack("program-in-kernel")
def program_in_kernel(targets: Targets) -> str:
    """A map of type array, which a program for the kernel needs."""
    attributes = ctypes.create_string_buffer(struct.pack("IIII", 2, 4, 8, 1), 120)
    calls.call(calls.BPF, 0, attributes, 120)
    return "made"


@attack("set-user-id-program")
def set_user_id_program(targets: Targets) -> str:
    """A program that becomes root for everybody, as sudo does for some."""
    if os.geteuid() == 0:
        raise Failed("is root already")
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(writing, 1)
        os.execv(targets["like_sudo"], [targets["like_sudo"], "cat", targets["for_root"]])
    os.close(writing)
    os.waitpid(pid, 0)
    return os.read(reading, 200).decode()


@attack("mode-of-input")
def mode_of_input(targets: Targets) -> str:
    """A descriptor from outside leads past all mounts; the same mode is set again."""
    os.fchmod(0, stat.S_IMODE(os.fstat(0).st_mode))
    return "set"


@attack("use-cgroup")
def use_cgroup(targets: Targets) -> str:
    """A cgroup beside the agent's; a process that can make one can freeze and kill those that are there."""
    os.mkdir(os.path.join(targets["cgroup"], "attack-" + targets["own_id"]))
    return ""


@attack("mount-cgroups")
def mount_cgroups(targets: Targets) -> str:
    """All cgroups, writable, in a namespace of one's own."""
    calls.own_namespaces(calls.NEWNS | calls.NEWCGROUP)
    place = os.path.join(targets["work"], "cgroup-" + targets["own_id"])
    os.makedirs(place, exist_ok=True)
    calls.call(calls.MOUNT, b"cgroup2", place.encode(), b"cgroup2", 0, None)
    procs = read(os.path.join(place, "cgroup.procs")).split()
    outside = [pid for pid in procs if pid == "0" or pid == str(targets["agent"])]
    os.mkdir(os.path.join(place, "mounted-" + targets["own_id"]))
    return "processes: {}".format(outside)


@attack("write-to-terminal")
def write_to_terminal(targets: Targets) -> str:
    """Of the same user: its answers can be read too."""
    fd = os.open(targets["terminal"], os.O_RDWR | os.O_NOCTTY)
    os.write(fd, targets["own_id"].encode())
    return ""


@attack("shared-memory-segment")
def shared_memory_segment(targets: Targets) -> str:
    """Of System V, which only its number names."""
    segment = calls.call(calls.SHMGET, targets["shm_key"], 64, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.shmat.restype = ctypes.c_void_p
    address = libc.shmat(segment, None, 0o10000)
    if address in (None, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), "shmat")
    return calls.text_at(address, 64)


@attack("keyring-of-user")
def keyring_of_user(targets: Targets) -> str:
    key = calls.call(calls.KEYCTL, 10, -4, b"user", targets["key_name"].encode(), 0)
    data = ctypes.create_string_buffer(200)
    calls.call(calls.KEYCTL, 11, key, data, 200)
    return data.value.decode()


@attack("forge-what-is-in-force")
def forge_what_is_in_force(targets: Targets) -> str:
    """Into `started`, where people look how well a run was kept apart."""
    path = os.path.join(targets["own_dir"], "started")
    started = json.loads(read(path))
    write(path, dict(started, isolation=dict(started.get("isolation") or {}, level="sealed", forged=True)))
    return ""
