"""The forms in which programs print a value: as it is, quoted for Python, JSON, URLs, shells and HTML, and in base64.

Written without urllib, shlex, html and base64, which would cost every fork server their memory.
"""

import binascii
import json
import re
from typing import Set

#: A shorter part of a base64 text could be anything.
_LEAST_BASE64 = 7
#: Longest value all of whose forms are looked for; of a longer one only itself and its JSON, because of the time.
_MAX_CHARS = 16 * 1024
#: Widths at which programs break long base64 texts: base64(1) and MIME, PEM.
_LINE_WIDTHS = (76, 64)
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-~")
_UNICODE_ESCAPE = re.compile(r"\\u([0-9a-f]{4})")
_SHELL_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_@%+=:,./-")


def forms(value: str) -> Set[bytes]:
    """The forms of `value` that stand for all of it, so that what is beside them is not part of it."""
    raw = _encoded(value)
    if len(value) > _MAX_CHARS:
        return {raw, *map(_encoded, _json_forms(value))}
    texts = {value, *_python_forms(value), *_json_forms(value), *_shell_forms(value), *_html_forms(value)}
    texts |= _doubled_forms(value)
    passed = {text.encode("utf-8", "surrogatepass") for text in texts}  # as Mask.text has them
    return {raw, repr(raw)[2:-1].encode(), *map(_encoded, texts), *passed, *_url_forms(raw)} - {b""}


def embedded_forms(value: str) -> Set[bytes]:
    """The base64 of `value`, alone or in the middle of something longer, as in "Basic dXNlcjpwYXNzd29yZA==".

    Base64 puts three bytes into four characters, so the value's place decides which characters it becomes; those at
    its edges depend on its neighbours, too, and are left out.
    """
    raw = _encoded(value)
    found: Set[bytes] = set()
    if len(value) > _MAX_CHARS:
        return found
    for shift in range(3):
        text = binascii.b2a_base64(b"\0" * shift + raw, newline=False)
        first, whole = (8 * shift + 5) // 6, 8 * (shift + len(raw)) // 6
        for kept in (text[first:whole], text[first:]):
            found.add(kept)
        if shift == 0:
            for width in _LINE_WIDTHS:
                found.update(text[start : start + width] for start in range(0, len(text), width))
    found |= {text.replace(b"+", b"-").replace(b"/", b"_") for text in found}
    return {text for text in found if len(text) >= _LEAST_BASE64}


def _encoded(value: str) -> bytes:
    """`value` in UTF-8; halves of characters are those that bytes of another encoding became (PEP 383), if any."""
    try:
        return value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogatepass")


def _python_forms(value: str) -> Set[str]:
    escaped = value.replace("\\", "\\\\")
    return {repr(value)[1:-1], ascii(value)[1:-1], escaped.replace("'", "\\'"), escaped.replace('"', '\\"')}


def _json_forms(value: str) -> Set[str]:
    escaped, plain = json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]
    # As Go's encoding/json does it, and as .NET does.
    for_html = plain.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    upper = _UNICODE_ESCAPE.sub(lambda found: "\\u" + found.group(1).upper(), escaped)
    once = {escaped, plain, for_html, upper}
    twice = {json.dumps(text)[1:-1] for text in once}
    return {*once, *twice, *(text.replace("/", "\\/") for text in once)}


def _url_forms(raw: bytes) -> Set[bytes]:
    found: Set[bytes] = set()
    for kept in (_UNRESERVED, _UNRESERVED | frozenset(b"/"), _UNRESERVED | frozenset(b"!$&'()*+,;=:@/?")):
        text = b"".join(bytes([byte]) if byte in kept else b"%%%02X" % byte for byte in raw)
        lower = b"".join(bytes([byte]) if byte in kept else b"%%%02x" % byte for byte in raw)
        found |= {text, lower, text.replace(b"%20", b"+"), lower.replace(b"%20", b"+")}
    return found


def _shell_forms(value: str) -> Set[str]:
    if all(character in _SHELL_PLAIN for character in value):
        return set()
    return {
        value.replace("'", "'\"'\"'"),  # shlex.quote
        value.replace("'", "'\\''"),  # set -x of most shells
        "".join(c if c in _SHELL_PLAIN or ord(c) > 127 else "\\" + c for c in value),  # printf %q
        "".join("\\" + c if c in '\\"$`' else c for c in value),  # within double quotes
    }


def _doubled_forms(value: str) -> Set[str]:
    """Quotes doubled: YAML and SQL, CSV."""
    return {value.replace("'", "''"), value.replace('"', '""')}


def _html_forms(value: str) -> Set[str]:
    basic = value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return {
        basic,
        basic.replace('"', "&quot;"),
        basic.replace('"', "&quot;").replace("'", "&#x27;"),
        basic.replace('"', "&#34;").replace("'", "&#39;"),
        basic.replace('"', "&quot;").replace("'", "&apos;"),
    }
