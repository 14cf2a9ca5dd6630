"""The IANA name of this host's time zone, such as Europe/Berlin."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

#: Directory names that the files of time zones are below, on all systems (tzfile(5), TZDIR).
_ZONE_DIRECTORY = "zoneinfo"
#: The file that decides without TZ (tzset(3)); some systems name it in TZ.
_LOCALTIME = "/etc/localtime"
#: Subdirectories with the same names, with and without leap seconds.
_VARIANTS = ("posix", "right")


def host_zone_name(environ: Mapping[str, str] = os.environ, root: Path = Path("/")) -> str | None:
    """Return the name that local time has here: TZ, else /etc/localtime, else /etc/timezone; None if there is none.

    A TZ that is no name but a rule, such as CET-1CEST, has none, and so has a copied /etc/localtime to which
    /etc/timezone does not fit.
    """
    given = environ.get("TZ", _LOCALTIME).removeprefix(":")
    if given != _LOCALTIME:
        return _known(_below_zone_directory(given) or given or "UTC")
    localtime = root / _LOCALTIME.lstrip("/")
    try:
        target = os.path.realpath(localtime) if localtime.is_symlink() else ""
    except OSError:
        target = ""
    linked = _known(_below_zone_directory(target))
    if linked is not None:
        return linked
    try:
        named = _known((root / "etc" / "timezone").read_text(encoding="ascii").strip())
    except (OSError, ValueError):
        return None
    return named if named is not None and _fits(named, localtime) else None


def _below_zone_directory(path: str) -> str | None:
    """Return the part of a path after the directory of time zones: Europe/Berlin."""
    _, found, name = path.rpartition(f"/{_ZONE_DIRECTORY}/")
    first, _, rest = name.partition("/")
    return (rest if first in _VARIANTS else name) if found else None


def _known(name: str | None) -> str | None:
    """Return the name if Python has a zone of that name."""
    try:
        return ZoneInfo(name).key if name else None
    except (KeyError, ValueError, OSError):
        return None


def _fits(name: str, localtime: Path) -> bool:
    """Return whether a copied zone file has the same clock as a zone, in winter and in summer."""
    try:
        with localtime.open("rb") as file:
            copied = ZoneInfo.from_file(file)
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False
    now = datetime.now(timezone.utc)
    moments = [now + timedelta(days=days) for days in (0, 91, 182, 273)]
    return all(at.astimezone(copied).utcoffset() == at.astimezone(ZoneInfo(name)).utcoffset() for at in moments)
