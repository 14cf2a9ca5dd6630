"""Places of the host through which a program could have something done outside its run; covered at every level.

Sockets of service managers, containers and terminals carry out what they are asked to, as somebody else or elsewhere.
"""

import os
from typing import Tuple

#: Covered if they are there. Where a directory is all of one service, the directory: a file that is replaced outside
#: can be seen again.
_PLACES = (
    "/run/user",
    "/run/dbus",
    "/run/systemd",
    "/run/docker.sock",
    "/run/docker",
    "/run/containerd",
    "/run/podman",
    "/run/crio",
    "/run/cri-dockerd.sock",
    "/run/dockershim.sock",
    "/run/buildkit",
    "/run/k3s",
    "/run/k0s",
    "/run/libvirt",
    "/run/lxd",
    "/run/lxd.socket",
    "/run/incus",
    "/run/snapd.socket",
    "/run/snapd-snap.socket",
    "/run/flatpak",
    "/run/cockpit",
    "/run/screen",
    "/run/screens",
    "/run/tmux",
    "/run/udev/control",
    "/run/lvm",
    "/run/initctl",
    "/run/supervisor.sock",
    "/run/supervisord.sock",
    "/run/supervisor",
    "/var/lib/lxd/unix.socket",
    "/var/lib/incus/unix.socket",
    "/var/snap/lxd/common/lxd/unix.socket",
)
#: Below a home directory.
_IN_HOME = (".ssh/agent",)
#: Names are resolved, and log records are taken, through these.
STAYING = (
    "/run/systemd/resolve",
    "/run/systemd/journal/dev-log",
    "/run/systemd/journal/socket",
    "/run/systemd/journal/stdout",
)


def ways_out(home: str) -> Tuple[str, ...]:
    """Return the paths, for a user with that home directory."""
    return (*_PLACES, *(os.path.join(home, name) for name in _IN_HOME))
