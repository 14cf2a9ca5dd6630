"""Places of the host through which a program could have something done outside its run; covered at every level.

Sockets of service managers, containers and terminals carry out what they are asked to, as somebody else or elsewhere.
"""

import os
from typing import Tuple

#: Covered if they are there, below /run. Where a directory is all of one service, the directory: a file that is
#: replaced outside can be seen again.
_IN_RUN = frozenset(
    {
        "user",
        "dbus",
        "systemd",
        "docker.sock",
        "docker",
        "containerd",
        "podman",
        "crio",
        "cri-dockerd.sock",
        "dockershim.sock",
        "buildkit",
        "k3s",
        "k0s",
        "libvirt",
        "lxd",
        "lxd.socket",
        "incus",
        "snapd.socket",
        "snapd-snap.socket",
        "flatpak",
        "cockpit",
        "screen",
        "screens",
        "tmux",
        "udev",
        "lvm",
        "initctl",
        "supervisor.sock",
        "supervisord.sock",
        "supervisor",
    }
)
_ELSEWHERE = (
    "/var/lib/lxd/unix.socket",
    "/var/lib/incus/unix.socket",
    "/var/snap/lxd/common/lxd/unix.socket",
)
#: Below a home directory.
_IN_HOME = (".ssh/agent",)
#: Names are resolved, log records are taken, and devices are described through these.
STAYING = (
    "/run/systemd/resolve",
    "/run/systemd/journal/dev-log",
    "/run/systemd/journal/socket",
    "/run/systemd/journal/stdout",
    "/run/udev/data",
)


def ways_out(home: str) -> Tuple[str, ...]:
    """Return the paths, for a user with that home directory."""
    try:
        present = _IN_RUN.intersection(os.listdir("/run"))
    except OSError:
        present = _IN_RUN
    in_run = (os.path.join("/run", name) for name in sorted(present))
    return (*in_run, *_ELSEWHERE, *(os.path.join(home, name) for name in _IN_HOME))
