"""A dict whose keys are attributes too, at every depth: how subclasses of agents read and change answers of the API."""

from __future__ import annotations

from enum import Enum
from typing import Any, Dict  # noqa: UP035 - see AttributeDict

_TO_COPY = (dict, list, tuple, Enum)


class AttributeDict(Dict[str, Any]):  # noqa: UP006 - dict[str, Any] would keep Python 3.8 from loading this module
    """A dict whose keys can be read, set and deleted as attributes; dicts put into it become such dicts as well.

    A key with the name of a method, such as `items`, is reached as a key only.
    """

    __slots__ = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self.update(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            known = ", ".join(map(str, self)) or "nothing"
            raise AttributeError(f"{type(self).__name__} has no {name!r}, only {known}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        if hasattr(dict, name) or hasattr(AttributeDict, name):
            raise AttributeError(f"{name!r} is a method of {type(self).__name__}; set it as a key: [{name!r}] = ...")
        self[name] = value

    def __delattr__(self, name: str) -> None:
        if name not in self:
            raise AttributeError(f"{type(self).__name__} has no {name!r}")
        del self[name]

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, _copied(value, AttributeDict))

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Set several keys, as `dict.update` does."""
        for key, value in dict(*args, **kwargs).items():
            self[key] = value

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Return the key's value, after setting it to `default` if it is missing."""
        if key not in self:
            self[key] = default
        return self[key]

    def copy(self) -> Any:
        """Return a shallow copy of the same type."""
        copy = type(self).__new__(type(self))
        copy.update(self)
        return copy

    def to_dict(self) -> dict[str, Any]:
        """Return a copy of plain dicts, lists and strings, all the way down."""
        plain: dict[str, Any] = _copied(self, dict)
        return plain


def _copied(value: Any, mapping: type[dict[str, Any]]) -> Any:
    """Return the value with a new `mapping` for each dict in it, except for dicts that are attribute dicts already.

    With `dict` everything becomes plain. Without recursion: JSON may be nested deeper than Python can call.
    """
    plain = mapping is dict
    holder = [value]
    pending: list[tuple[Any, Any]] = [(holder, 0)]
    while pending:
        container, key = pending.pop()
        child = container[key]
        copy: Any
        if isinstance(child, dict) and (plain or not isinstance(child, AttributeDict)):
            copy = mapping.__new__(mapping)
            dict.update(copy, child)
            pending.extend((copy, name) for name, inner in child.items() if isinstance(inner, _TO_COPY))
        elif isinstance(child, list) or (plain and isinstance(child, tuple)):
            copy = list(child)
            pending.extend((copy, index) for index, inner in enumerate(copy) if isinstance(inner, _TO_COPY))
        elif plain and isinstance(child, Enum):
            copy = child.value
        else:
            continue
        if isinstance(container, dict):
            dict.__setitem__(container, key, copy)
        else:
            container[key] = copy
    return holder[0]
