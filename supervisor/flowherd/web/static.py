"""The files that pages load: style sheet, script, chart library. Each address names its content, so it may be kept."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

#: Where pages find them.
STATIC_PATH = "/static"
_TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"}


@dataclass(frozen=True)
class StaticFile:
    """One file as it is served."""

    content: bytes
    #: The same, compressed by gzip.
    packed: bytes
    media_type: str
    #: Tells this content from that of other releases.
    version: str

    def headers(self, *, accepts_gzip: bool) -> dict[str, str]:
        """Return the headers of an answer, whose body is then `packed` or `content`."""
        kept = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
        return {**kept, "Vary": "Accept-Encoding", **({"Content-Encoding": "gzip"} if accepts_gzip else {})}


@cache
def static_file(name: str) -> StaticFile | None:
    """Return a file by its name, such as `flowherd.css`; None if there is none."""
    kind = name.rpartition(".")[2]
    if kind not in _TYPES or not name.replace(".", "").replace("-", "").isalnum():
        return None
    file = files("flowherd.web").joinpath(f"static/{name}")
    if not file.is_file():
        return None
    content = file.read_bytes()
    return StaticFile(content, gzip.compress(content, mtime=0), _TYPES[kind], hashlib.sha256(content).hexdigest()[:12])


def static_address(name: str) -> str:
    """Return the address of a file for a page. Raises LookupError if there is no such file."""
    file = static_file(name)
    if file is None:
        raise LookupError(f"flowherd/web/static has no file {name}")
    return f"{STATIC_PATH}/{name}?v={file.version}"
