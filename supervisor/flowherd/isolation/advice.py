"""How to get on this host what keeps runs apart, for `doctor` and for an agent that refuses to start without it."""

from __future__ import annotations

from pathlib import Path

#: Settings of the kernel that keep ordinary users from namespaces: path below /proc/sys, the value that does, and what
#: to do. The first is Debian's, the second Ubuntu's, the third every kernel's (namespaces(7)).
_SWITCHES = (
    ("kernel/unprivileged_userns_clone", "0", "`sysctl kernel.unprivileged_userns_clone=1`"),
    (
        "kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "an AppArmor profile with `userns,` for the agent's interpreter, or "
        "`sysctl kernel.apparmor_restrict_unprivileged_userns=0`",
    ),
    ("user/max_user_namespaces", "0", "`sysctl user.max_user_namespaces=10000`"),
)
#: Kinds of namespaces whose number the kernel limits, for root too (/proc/sys/user/max_KIND_namespaces).
_LIMITED = ("pid", "mnt", "ipc", "net")
_NAMESPACES = ("namespace", "mounts")
_LANDLOCK = "landlock"


def advice(lacks: str, *, is_root: bool, system: Path = Path("/")) -> str:
    """Return what to do about a missing part, as named by a trial; a sentence, or several.

    `is_root` is whether the agent's user is root. `system` is where /proc and /sys are.
    """
    text = lacks.lower()
    found = []
    if _LANDLOCK in text:
        found.append(_for_landlock(system))
    if any(word in text for word in _NAMESPACES):
        found.append(_for_namespaces(system, is_root))
    return " ".join(found) or (
        "Isolation needs Linux 5.13 with namespaces and Landlock; where the host has them, please report this."
    )


def _for_namespaces(system: Path, is_root: bool) -> str:
    limits = [f"user.max_{kind}_namespaces" for kind in _LIMITED]
    if used_up := [name for name in limits if _content(system / "proc/sys" / name.replace(".", "/", 1)) == "0"]:
        return f"As root: {'; '.join(f'`sysctl {name}=10000`' for name in used_up)}."
    if is_root:
        return (
            "Give the agent CAP_SYS_ADMIN: in a container, `--cap-add SYS_ADMIN` and a seccomp profile that allows it."
        )
    switches = [what for name, value, what in _SWITCHES if _content(system / "proc/sys" / name) == value]
    if switches:
        return f"As root: {'; '.join(switches)}. Or run the agent as root, which needs no user namespace."
    return (
        "Let this user have namespaces: in a container, by a seccomp profile that allows unshare and mount. Or run the "
        "agent as root, which needs no user namespace."
    )


def _for_landlock(system: Path) -> str:
    modules = _content(system / "sys/kernel/security/lsm")
    if modules and _LANDLOCK not in modules.split(","):
        return f"Start the kernel with `lsm=landlock,{modules}`, if it has Landlock (Linux 5.13)."
    return "Landlock's rules for files need Linux 5.13, built and started with it (lsm=)."


def _content(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
