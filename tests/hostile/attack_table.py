"""What each attack of a flow achieves at each level: the table in docs/security.md, which test_attacks.py holds true.

    python -m tests.hostile.attack_table

prints it. In `achieved` the letters stand for those who succeed: R, flows of a root agent; U, flows of a root agent as
another user (--user); O, flows of an agent that is an ordinary user. The columns are COLUMNS.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

#: What a column of the table stands for, and the isolation that its flows ask for.
COLUMNS: Mapping[str, Mapping[str, Any]] = {
    "none": {},
    "private": {"level": "private"},
    "sealed": {"level": "sealed"},
    "sealed, network none": {"level": "sealed", "network": "none"},
}
_WORDS = {
    "": "no",
    "RUO": "**yes**",
    "R": "**as root**",
    "O": "as an ordinary user",
    "U": "with `--user`",
    "RO": "**yes**, not with `--user`",
    "RU": "**if the agent is root**",
    "UO": "**yes**, not as root",
}


class Row(NamedTuple):
    """One attack."""

    name: str
    text: str
    #: One word for each column; "-" is nobody.
    achieved: str

    def by_column(self) -> dict[str, str]:
        """Return who succeeds, by column."""
        words = ["" if word == "-" else word for word in self.achieved.split()]
        return dict(zip(COLUMNS, words, strict=True))


class Group(NamedTuple):
    """A part of the table."""

    heading: str
    rows: tuple[Row, ...]


GROUPS = (
    Group(
        "flowherd's own files",
        (
            Row("read-spec", "read another run's `spec.json`: its parameters and variables", "RO - - -"),
            Row("read-journal", "read another run's output", "RO - - -"),
            Row("read-work-of-other-run", "read the fresh working directory of another run", "RUO - - -"),
            Row("read-token", "read the server's token", "RO - - -"),
            Row("list-home", "list flowherd's home", "RO - - -"),
            Row("stat-state", "learn size and times of flowherd's files", "RO - - -"),
            Row("open-own-journal", "forge lines of its own run's journal", "RO - - -"),
            Row("plant-in-own-run", "plant a file, such as an exit record, in its run directory", "RO - - -"),
            Row("forge-what-is-in-force", "forge what `explain` shows of how it was kept apart", "RO - - -"),
            Row("rename-in-home", "rename or remove what lies in flowherd's home", "RO - - -"),
            Row("change-mode", "change the mode of flowherd's files", "RO - - -"),
            Row("change-times", "change the times of flowherd's files", "RO - - -"),
        ),
    ),
    Group(
        "past what covers them",
        (
            Row("link-to-spec", "make a second name for a file of flowherd's, and read that", "RO - - -"),
            Row("left-open-descriptor", "use a descriptor that was left open", "- - - -"),
            Row("root-of-a-process", "go through `/proc/PID/root` or `/proc/PID/cwd`", "RO - - -"),
            Row("unmount-cover", "unmount the cover", "RO - - -"),
            Row("unmount-in-own-namespace", "unmount it in a user and mount namespace of its own", "RO - - -"),
            Row("bind-past-cover", "bind a directory above it elsewhere", "RO - - -"),
            Row("tree-past-cover", "copy a tree of mounts without the cover (open_tree)", "RO - - -"),
            Row("overlay-past-cover", "make the directory above it the lower layer of an overlay", "RO - - -"),
            Row("open-by-handle", "open a file by its handle", "R - - -"),
            Row("open-by-handle-in-own-namespace", "the same, in namespaces of its own", "- - - -"),
            Row("enter-namespaces", "enter the namespaces of a process outside", "R - - -"),
            Row("raw-disk", "read a block device, or make one (mknod)", "R - - -"),
        ),
    ),
    Group(
        "other files",
        (
            Row("read-tmp", "read files of others in /tmp", "RUO - - -"),
            Row("read-shm", "read files of others in /dev/shm", "RUO - - -"),
            Row("read-hidden", "read what `hide` names", "RUO - - -"),
            Row("write-in-own-home", "write `~/.profile`, which runs outside at the next login", "RUO RUO - -"),
            Row("write-elsewhere", "write anywhere else that its user may write", "RUO RUO - -"),
            Row("write-in-later-mount", "write in a file system mounted after the start", "RUO RUO - -"),
            Row("write-code-of-runners", "write code that the next runner loads", "R R - -"),
        ),
    ),
    Group(
        "processes outside",
        (
            Row("see-command-line", "see their command lines", "RUO - - -"),
            Row("see-through-second-proc", "see them in a /proc that is mounted once more", "RUO - - -"),
            Row("signal-process", "signal one of the same user", "RUO - - -"),
            Row("signal-by-descriptor", "signal it by a descriptor (pidfd)", "RUO - - -"),
            Row("signal-all", "signal all of the user at once (`kill -- -1`)", "RUO - - -"),
            Row("signal-other-run", "signal another run's flow", "RUO - - -"),
            Row("signal-flowherd", "signal its runner, the agent or the fork server", "RO - - -"),
            Row("trace", "trace one of the same user (ptrace)", "RUO - - -"),
            Row("read-memory", "read its memory (`/proc/PID/mem`)", "RUO - - -"),
            Row("read-memory-by-call", "read its memory (process_vm_readv)", "RUO - - -"),
            Row("write-memory", "write its memory (process_vm_writev)", "RUO - - -"),
            Row("read-environment", "read its environment", "RUO - - -"),
            Row("descriptors-of-process", "open what it has open (`/proc/PID/fd`)", "RUO - - -"),
            Row("take-descriptor", "take a descriptor of it (pidfd_getfd)", "RUO - - -"),
            Row("working-directory-of-process", "go through its working directory (`/proc/PID/cwd`)", "RUO - - -"),
            Row("trace-flowherd", "read the memory of runner, agent or fork server", "R - - -"),
            Row("read-environment-of-flowherd", "read their environment", "R - - -"),
            Row("descriptors-of-flowherd", "see and open what they have open", "R - - -"),
            Row("memory-of-first-process", "trace the first process of the run's own namespace", "- - - -"),
            Row("token-in-own-memory", "find the server's token in its own memory", "- - - -"),
            Row("change-niceness", "make one of the same user slower (nice)", "RUO - - -"),
            Row("change-niceness-of-user", "change the I/O priority of all of the user", "RUO - - -"),
            Row("change-affinity", "take processors from it", "RUO - - -"),
            Row("change-limits", "change its limits (prlimit)", "RUO - - -"),
            Row("limits-of-flowherd", "change limits of runner, agent or fork server", "RO - - -"),
            Row("oom-score", "let the kernel end it first when memory is short", "RUO - - -"),
        ),
    ),
    Group(
        "sockets and what processes share",
        (
            Row("control-socket", "connect to the agent's `control.sock`", "- - - -"),
            Row("lane-socket", "connect to the server's `lane.sock`", "RO - - -"),
            Row("server-without-token", "use the server without a token", "- - - -"),
            Row("server-with-found-token", "use the server with a token it finds", "RO - - -"),
            Row("abstract-socket", "connect to an abstract socket", "RUO - - -"),
            Row("socket-in-tmp", "connect to a socket in /tmp: tmux, ssh-agent, X11", "RUO - - -"),
            Row("socket-in-own-home", "connect to a socket in its user's home: gpg-agent", "RUO RUO RUO RUO"),
            Row("container-engine", "connect to Docker's socket", "RUO - - -"),
            Row("user-bus", "connect to the user's D-Bus (`systemd-run --user`)", "RUO - - -"),
            Row("system-bus", "connect to the system's D-Bus", "RUO - - -"),
            Row("service-manager", "connect to systemd's own socket", "RUO - - -"),
            Row("terminal-multiplexer", "connect to GNU screen's socket in /run/screen", "RUO - - -"),
            Row("loopback", "connect to a TCP port of the host's loopback", "RUO RUO RUO -"),
            Row("datagram", "send a datagram over the host's loopback", "RUO RUO RUO -"),
            Row("listen-to-loopback", "record the host's packets", "R - - -"),
            Row("hypervisor-socket", "make a socket to the hypervisor (AF_VSOCK)", "RUO RUO RUO -"),
            Row("ring-for-sockets", "make sockets past a filter of system calls (io_uring)", "RUO RUO RUO -"),
            Row("write-to-terminal", "write to a terminal of its user", "RUO - - -"),
            Row("shared-memory-segment", "attach shared memory of System V", "RUO - - -"),
            Row("keyring-of-user", "read the user's keyring", "RUO - - -"),
        ),
    ),
    Group(
        "the kernel and the host",
        (
            Row("core-pattern", "choose the program that the kernel runs after a crash", "R - - -"),
            Row("kernel-trigger", "restart the host (`/proc/sysrq-trigger`)", "- - - -"),
            Row("kernel-memory", "open the kernel's memory (/proc/kcore, /dev/mem)", "- - - -"),
            Row("kernel-log", "write into the kernel's log", "R - - -"),
            Row("load-module", "load a kernel module", "- - - -"),
            Row("set-host-name", "set the host's name", "R - - -"),
            Row("watch-whole-host", "record performance events of all processes", "R - - -"),
            Row("program-in-kernel", "load programs for the kernel (BPF)", "R - - -"),
            Row("set-user-id-program", "become root by a set-user-ID program, as sudo is one", "UO - - -"),
            Row("mode-of-input", "change the mode of /dev/null, by way of standard input", "R R - -"),
            Row("use-cgroup", "make cgroups beside the agent's; so freeze and kill", "R - - -"),
            Row("mount-cgroups", "the same through cgroups mounted in its own namespaces", "R - - -"),
        ),
    ),
)
ROWS = {row.name: row for group in GROUPS for row in group.rows}


def lines() -> Iterator[str]:
    """Yield the lines of the table in docs/security.md."""
    yield "| " + " | ".join(["attack", *COLUMNS]) + " |"
    yield "| --- " * (1 + len(COLUMNS)) + "|"
    for group in GROUPS:
        yield f"| **{group.heading}** " + "| " * len(COLUMNS) + "|"
        for row in group.rows:
            yield "| " + " | ".join([row.text, *(_WORDS[who] for who in row.by_column().values())]) + " |"


if __name__ == "__main__":
    print("\n".join(lines()))
