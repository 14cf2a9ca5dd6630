"""Writing in an agent's state directory as the user whom it belongs to.

supervisord's own socket is often root's alone, so the listener has to be root to ask supervisord. What root writes in
another user's directory must not be led elsewhere by links of that user.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def as_owner(directory: Path) -> Iterator[None]:
    """Be the owner of this directory inside, if this process is root. Raises OSError if there is no such directory.

    The user of all threads changes (seteuid(2)).
    """
    owner = directory.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        yield
        return
    own_group = os.getegid()
    try:
        os.setegid(owner.st_gid)
        os.seteuid(owner.st_uid)
        yield
    finally:
        os.seteuid(0)
        os.setegid(own_group)
