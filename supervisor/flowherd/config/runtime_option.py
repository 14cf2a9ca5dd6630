"""Reads a runtime that is written as one option: "NAME=PYTHON;labels=a,b;flows=x*;preload=m1,m2;core=0.*"."""

from __future__ import annotations

#: The setting behind each word of the text.
_LISTS = {"labels": "labels", "flows": "flows", "preload": "preload"}
_TEXTS = {"core": "core_version", "core_version": "core_version"}
_FORM = "NAME=PYTHON, then any of ;labels=A,B ;flows=X* ;preload=M1,M2 ;core=0.*"


def runtime_from_text(text: str) -> dict[str, object]:
    """Return the settings of the runtime. Raises ValueError, which shows the form of such a text."""
    first, *others = text.split(";")
    found: dict[str, object] = dict(zip(("name", "interpreter"), _pair(first, text), strict=True))
    for item in filter(None, map(str.strip, others)):
        word, value = _pair(item, text)
        if word in _LISTS:
            found[_LISTS[word]] = [part.strip() for part in value.split(",") if part.strip()]
        elif word in _TEXTS:
            found[_TEXTS[word]] = value
        else:
            raise ValueError(f"{word!r} is not known; a runtime is written as {_FORM}")
    return found


def _pair(item: str, text: str) -> tuple[str, str]:
    word, equals, value = (part.strip() for part in item.partition("="))
    if not equals or not word or not value:
        raise ValueError(f"a runtime is written as {_FORM}, not {text!r}")
    return word, value
