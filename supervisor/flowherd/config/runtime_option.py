"""A runtime as people write it on a command line: "NAME=PYTHON;labels=a,b;flows=x*;preload=m1,m2;core=0.*"."""

from __future__ import annotations

#: The words of the text, and the settings that they are.
_LISTS = {"labels": "labels", "flows": "flows", "preload": "preload"}
_TEXTS = {"core": "core_version", "core_version": "core_version"}
_SHAPE = "NAME=PYTHON, and behind it any of ;labels=A,B ;flows=X* ;preload=M1,M2 ;core=0.*"


def runtime_from_text(text: str) -> dict[str, object]:
    """The settings that `text` stands for. Raises ValueError, which says how such a text looks."""
    first, *others = text.split(";")
    found: dict[str, object] = dict(zip(("name", "interpreter"), _pair(first, text), strict=True))
    for item in filter(None, map(str.strip, others)):
        word, value = _pair(item, text)
        if word in _LISTS:
            found[_LISTS[word]] = [part.strip() for part in value.split(",") if part.strip()]
        elif word in _TEXTS:
            found[_TEXTS[word]] = value
        else:
            raise ValueError(f"{word!r} is not known; a runtime is written as {_SHAPE}")
    return found


def _pair(item: str, text: str) -> tuple[str, str]:
    word, equals, value = (part.strip() for part in item.partition("="))
    if not equals or not word or not value:
        raise ValueError(f"a runtime is written as {_SHAPE}, not {text!r}")
    return word, value
