"""Attacks on flowherd's files, and on others, by their paths, by descriptors and past what covers them."""

import base64
import ctypes
import os
import re
import stat
import struct
from typing import Iterator

import calls
from registry import Failed, Targets, attack, read


@attack("read-spec")
def read_spec(targets: Targets) -> str:
    return read(targets["spec"])


@attack("read-token")
def read_token(targets: Targets) -> str:
    return read(os.path.join(targets["home"], "server.token"))


@attack("read-journal")
def read_journal(targets: Targets) -> str:
    return read(os.path.join(targets["neighbour_dir"], "journal"))


@attack("list-home")
def list_home(targets: Targets) -> str:
    return " ".join(os.listdir(targets["home"]))


@attack("stat-state")
def stat_state(targets: Targets) -> str:
    return str(os.stat(targets["spec"]).st_ino)


@attack("open-own-journal")
def open_own_journal(targets: Targets) -> str:
    fd = os.open(os.path.join(targets["own_dir"], "journal"), os.O_WRONLY | os.O_APPEND)
    return str(os.fstat(fd).st_ino)


@attack("plant-in-own-run")
def plant_in_own_run(targets: Targets) -> str:
    with open(os.path.join(targets["own_dir"], "planted"), "w"):
        return ""


@attack("rename-in-home")
def rename_in_home(targets: Targets) -> str:
    os.rename(os.path.join(targets["home"], "to-rename"), os.path.join(targets["home"], "renamed"))
    return ""


@attack("change-mode")
def change_mode(targets: Targets) -> str:
    os.chmod(os.path.join(targets["home"], "to-change"), 0o640)
    return ""


@attack("change-times")
def change_times(targets: Targets) -> str:
    os.utime(os.path.join(targets["home"], "to-date"), (1, 1))
    return ""


@attack("link-to-spec")
def link_to_spec(targets: Targets) -> str:
    """A second name in the working directory; a hard link goes past what covers the first."""
    name = os.path.join(targets["work"], "link-" + targets["own_id"])
    try:
        os.link(targets["spec"], name)
        return read(name)
    finally:
        if os.path.exists(name):
            os.unlink(name)


@attack("left-open-descriptor")
def left_open_descriptor(targets: Targets) -> str:
    """Whatever directory or file of flowherd's this process has inherited."""
    for fd in sorted(int(name) for name in os.listdir("/proc/self/fd")):
        for path in _ways(fd, targets):
            try:
                found = os.open(path, os.O_RDONLY, dir_fd=fd)
            except OSError:
                continue
            return os.read(found, 1 << 16).decode("utf-8", "replace")
    raise Failed("no descriptor leads there")


def _ways(fd: int, targets: Targets) -> Iterator[str]:
    try:
        place = os.readlink("/proc/self/fd/{}".format(fd))
    except OSError:
        return
    if place.startswith("/"):
        yield os.path.relpath(targets["spec"], place)
    for up in range(8):
        yield "../" * up + targets["spec"].lstrip("/")


@attack("root-of-a-process")
def root_of_a_process(targets: Targets) -> str:
    """/proc/PID/root and /proc/PID/cwd lead into the mounts that the process sees."""
    pids = [name for name in os.listdir("/proc") if name.isdigit()] + [str(targets["runner"]), str(targets["agent"])]
    for pid in pids:
        if pid in (str(os.getpid()), str(os.getppid())):
            continue
        for link in ("root", "cwd"):
            try:
                return read("/proc/{}/{}{}".format(pid, link, targets["spec"]))
            except OSError:
                continue
    raise Failed("no process's root leads there")


@attack("unmount-cover")
def unmount_cover(targets: Targets) -> str:
    _unmount_above(targets)
    return _only_after(targets)


@attack("unmount-in-own-namespace")
def unmount_in_own_namespace(targets: Targets) -> str:
    calls.own_namespaces(calls.NEWNS)
    _unmount_above(targets)
    return _only_after(targets)


@attack("bind-past-cover")
def bind_past_cover(targets: Targets) -> str:
    """A bind of one mount alone shows what other mounts cover."""
    calls.own_namespaces(calls.NEWNS)
    place = os.path.join(targets["work"], "bind-" + targets["own_id"])
    os.makedirs(place, exist_ok=True)
    for above in _above(targets["spec"]):
        try:
            calls.call(calls.MOUNT, above.encode(), place.encode(), None, calls.MS_BIND, None)
        except OSError:
            continue
        try:
            return read(os.path.join(place, os.path.relpath(targets["spec"], above)))
        except OSError:
            calls.call(calls.UMOUNT2, place.encode(), calls.MNT_DETACH)
    raise Failed("no directory above could be bound")


@attack("tree-past-cover")
def tree_past_cover(targets: Targets) -> str:
    """A detached copy of one mount without those on it."""
    calls.own_namespaces(calls.NEWNS)
    for above in _above(targets["spec"]):
        try:
            fd = calls.call(calls.OPEN_TREE, calls.AT_FDCWD, above.encode(), 1)
            found = os.open(os.path.relpath(targets["spec"], above), os.O_RDONLY, dir_fd=fd)
        except OSError:
            continue
        return os.read(found, 1 << 16).decode("utf-8", "replace")
    raise Failed("no copy of a mount")


@attack("overlay-past-cover")
def overlay_past_cover(targets: Targets) -> str:
    """An overlay's lower layer is one mount alone."""
    calls.own_namespaces(calls.NEWNS)
    place = os.path.join(targets["work"], "overlay-" + targets["own_id"])
    os.makedirs(place, exist_ok=True)
    for above in _above(targets["spec"]):
        options = "lowerdir={}:{}".format(above, place).encode()
        try:
            calls.call(calls.MOUNT, b"overlay", place.encode(), b"overlay", 0, options)
            return read(os.path.join(place, os.path.relpath(targets["spec"], above)))
        except OSError:
            continue
    raise Failed("no overlay")


@attack("open-by-handle")
def open_by_handle(targets: Targets) -> str:
    return _by_handle(targets)


@attack("open-by-handle-in-own-namespace")
def open_by_handle_in_own_namespace(targets: Targets) -> str:
    calls.own_namespaces(calls.NEWNS)
    return _by_handle(targets)


@attack("raw-disk")
def raw_disk(targets: Targets) -> str:
    """A block device of the host: the file that is there, or one made here."""
    device = targets["block_device"]
    for place in (targets["work"], "/tmp", "/dev/shm", "/dev"):
        name = os.path.join(place, "disk-" + targets["own_id"])
        try:
            os.mknod(name, 0o60600, device)
            os.close(os.open(name, os.O_RDONLY))
            return name
        except OSError:
            continue
        finally:
            if os.path.lexists(name):
                os.unlink(name)
    for entry in os.listdir("/dev"):
        status = os.stat(os.path.join("/dev", entry))
        if status.st_rdev == device and stat.S_ISBLK(status.st_mode):
            os.close(os.open(os.path.join("/dev", entry), os.O_RDONLY))
            return entry
    raise Failed("no such device")


@attack("write-in-own-home")
def write_in_own_home(targets: Targets) -> str:
    """What a shell runs the next time that its user logs in."""
    with open(os.path.join(targets["user_home"], ".profile"), "a") as file:
        file.write("# " + targets["own_id"])
    return ""


@attack("write-elsewhere")
def write_elsewhere(targets: Targets) -> str:
    with open(os.path.join(targets["elsewhere"], targets["own_id"]), "w"):
        return ""


@attack("write-in-later-mount")
def write_in_later_mount(targets: Targets) -> str:
    """A file system that the host mounted after the run had started."""
    if not os.path.exists(os.path.join(targets["later_mount"], "is-mounted")):
        raise Failed("the mount has not arrived")
    with open(os.path.join(targets["later_mount"], targets["own_id"]), "w"):
        return ""


@attack("write-code-of-runners")
def write_code_of_runners(targets: Targets) -> str:
    """Into the package that each fork server and runner loads, outside."""
    with open(os.path.join(targets["runner_code"], "planted_" + targets["own_id"].replace("-", "_")), "w"):
        return ""


@attack("read-work-of-other-run")
def read_work_of_other_run(targets: Targets) -> str:
    """Another run's fresh working directory, which is the same user's."""
    return read(os.path.join(targets["neighbour_work"], "secret"))


@attack("read-tmp")
def read_tmp(targets: Targets) -> str:
    return read(targets["tmp_file"])


@attack("read-shm")
def read_shm(targets: Targets) -> str:
    return read(targets["shm_file"])


@attack("read-hidden")
def read_hidden(targets: Targets) -> str:
    return read(os.path.join(targets["hidden"], "secret"))


def _above(path: str) -> Iterator[str]:
    while path != "/":
        path = os.path.dirname(path)
        yield path


def _unmount_above(targets: Targets) -> None:
    """Unmount all that covers the home, the last mount first."""
    with open("/proc/self/mountinfo") as file:
        points = [re.sub(r"\\040", " ", line.split()[4]) for line in file]
    above = set(_above(targets["spec"])) - {"/"}
    for point in reversed(points):
        if point in above:
            calls.call(calls.UMOUNT2, point.encode(), calls.MNT_DETACH)


def _only_after(targets: Targets) -> str:
    """Read the spec; without any cover this attack is no other than the plain one."""
    return read(targets["spec"])


def _by_handle(targets: Targets) -> str:
    kind, data = targets["spec_handle"]
    raw = base64.b64decode(data)
    handle = ctypes.create_string_buffer(struct.pack("Ii", len(raw), kind) + raw)
    for place in ("/", targets["work"], "/etc", "/tmp"):
        mount = os.open(place, os.O_RDONLY)
        try:
            fd = calls.call(calls.OPEN_BY_HANDLE_AT, mount, handle, os.O_RDONLY)
        except OSError:
            continue
        return os.read(fd, 1 << 16).decode("utf-8", "replace")
    raise Failed("no file by its handle")
