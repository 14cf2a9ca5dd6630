"""Makes directories that no other user may enter, whatever the umask is."""

from __future__ import annotations

from pathlib import Path


def make_private_directory(path: Path) -> None:
    """Make a directory of mode 0700 if it does not exist, and all directories above it that do not.

    Not `Path.mkdir(parents=True)`, which gives those above the mode that the umask leaves: 0777 with umask 000, so that
    anybody could rename what is in them. Raises OSError.
    """
    if not path.parent.exists():
        make_private_directory(path.parent)
    path.mkdir(mode=0o700, exist_ok=True)
