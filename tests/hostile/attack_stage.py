"""Where attacks are tried: mounts of its own, in which every user reaches the interpreter and /run is the scene's."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

#: What flows attack with. It is copied to where every user can read it.
PROGRAMS = Path(__file__).parent / "attacks"

#: Ends with its input. $1 is a directory for mounts, $2 one that only root may enter, or nothing, $3 the place of the
#: file system that is mounted later; further arguments stay reachable below the second.
_MOUNTS = """
set -e
mounts=$1 closed=$2 later=$3
shift 3
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/user /run/dbus /run/systemd /run/screen "$mounts"
if [ "$closed" ]; then
    number=0
    for path; do
        number=$((number + 1))
        mkdir "$mounts/$number"
        mount --bind "$path" "$mounts/$number"
    done
    mount -t tmpfs -o mode=755 tmpfs "$closed"
    number=0
    for path; do
        number=$((number + 1))
        mkdir -p "$path"
        mount --move "$mounts/$number" "$path"
    done
fi
mkdir "$mounts/proc"
mount -t proc proc "$mounts/proc"
mkdir "$mounts/again"
mount --bind "${mounts%/*}" "$mounts/again"
mount -t tmpfs -o mode=1777 tmpfs /media
mount --make-shared /media
mkdir "$later"
echo ready
read _
"""


class Who(NamedTuple):
    """Whose agent runs the flows, and as whom."""

    name: str
    agent_uid: int
    flow_uid: int
    #: For --user; None if the flows run as the agent's user.
    user: str | None


ROOT = Who("root", 0, 0, None)
#: A root agent's flows as another user. Not `nobody`, who owns whatever a user namespace has no name for.
USER = Who("user", 0, 5, "games")
ORDINARY = Who("ordinary", 65534, 65534, None)


@dataclass(frozen=True)
class Stage:
    """Its mounts, and the directories that a scene uses."""

    place: Path
    who: Who
    holder: subprocess.Popen[str]

    @property
    def enter(self) -> tuple[str, ...]:
        """The arguments before a program that is to see these mounts."""
        return ("nsenter", f"--mount=/proc/{self.holder.pid}/ns/mnt", "--")

    def as_user(self, uid: int) -> tuple[str, ...]:
        """The same, for a program of that user."""
        group = pwd.getpwuid(uid).pw_gid
        return (*self.enter, "setpriv", f"--reuid={uid}", f"--regid={group}", "--clear-groups", "--")

    def directory(self, name: str, uid: int, mode: int = 0o700) -> Path:
        """Make a directory of that user, and return it."""
        path = self.place / name
        path.mkdir(mode=mode)
        path.chmod(mode)
        os.chown(path, uid, uid)
        return path

    @property
    def second_proc(self) -> Path:
        """Where /proc is mounted once more, as for chroot(2)."""
        return self.place / "mounts" / "proc"

    @property
    def again(self) -> Path:
        """Where all of `place` is mounted once more, without what is mounted in it."""
        return self.place / "mounts" / "again"

    @property
    def later_mount(self) -> Path:
        """Where `mount_later` mounts."""
        return Path("/media/later")

    def mount_later(self) -> None:
        """Mount a file system that everybody may write to, as a host does for a stick, once."""
        options = ["-t", "tmpfs", "-o", "mode=1777", "tmpfs", str(self.later_mount)]
        inside = f"mount {' '.join(options)}; touch {self.later_mount}/is-mounted"
        subprocess.run([*self.enter, "sh", "-c", f"mountpoint -q {self.later_mount} || {{ {inside}; }}"], check=True)

    def exists(self, path: str) -> bool:
        """Whether there is such a file in these mounts; reading at it is left to root."""
        return Path(f"/proc/{self.holder.pid}/root{path}").exists()


@contextmanager
def stage(who: Who, reachable: Sequence[Path] = ()) -> Iterator[Stage]:
    """Make the mounts, and a directory that every user can reach; both end with the block.

    `reachable` are directories, beside the interpreter's, that every user is to reach if only root may otherwise.

    It is not in /tmp, which a run has of its own: that alone would keep the run from all that is attacked.
    """
    with tempfile.TemporaryDirectory(prefix="flowherd-", dir="/srv") as name:
        place = Path(name)
        place.chmod(0o711)
        with _mounts(place, reachable) as holder:
            yield Stage(place, who, holder)


@contextmanager
def _mounts(place: Path, reachable: Sequence[Path]) -> Iterator[subprocess.Popen[str]]:
    programs = place / "programs"
    shutil.copytree(PROGRAMS, programs, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (programs, *programs.iterdir()):
        path.chmod(0o755)
    base = Path(sys.base_prefix).resolve()
    closed = next((str(one) for one in reversed(base.parents) if not one.stat().st_mode & 0o001), "")
    arguments = [str(place / "mounts"), closed, "/media/later", *map(str, (base, *reachable))]
    holder = subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", _MOUNTS, "sh", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdin is not None and holder.stdout is not None
    try:
        assert holder.stdout.readline() == "ready\n"
        yield holder
    finally:
        holder.stdin.close()
        holder.stdout.close()
        holder.wait(10)


class Bystander:
    """The process of the flow's user that is attacked: attacks/bystander.py."""

    def __init__(self, stage: Stage, secret: str, where: dict[str, Any]) -> None:
        self.secret = secret
        place = stage.directory("bystander", stage.who.flow_uid)
        program = [sys.executable, str(stage.place / "programs" / "bystander.py"), secret, str(place)]
        self._process = subprocess.Popen(
            [*stage.as_user(stage.who.flow_uid), *program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "BYSTANDER": json.dumps(where), "BYSTANDER_SECRET": secret},
        )
        #: What it prints of itself: see the program.
        self.where = self._read()

    def look(self) -> dict[str, Any]:
        """Return what has happened to it."""
        assert self._process.stdin is not None
        self._process.stdin.write("look\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the bystander has ended"
        found: dict[str, Any] = json.loads(line)
        return found
