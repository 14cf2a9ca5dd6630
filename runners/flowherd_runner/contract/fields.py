"""Reads JSON objects of the contracts, and checks the type of each value."""

from typing import Any, Dict, Mapping, Sequence, Tuple

from flowherd_runner.contract.files import MAX_SECONDS


class SpecError(ValueError):
    """spec.json does not have the contract's shape, so the run cannot be prepared at all."""


class Fields:
    """Reads the values of one JSON object and checks the type of each; null counts as absent.

    Raises SpecError for a value of another type, or with `tolerant` returns the default in its place.
    """

    def __init__(self, source: Mapping[str, Any], tolerant: bool) -> None:
        self.source = source
        self._tolerant = tolerant

    def required(self, key: str, kind: type, fallback: Any) -> Any:
        """A value that must be there; a tolerant reader gets `fallback` without it."""
        if self.source.get(key) is None and not self._tolerant:
            raise SpecError("the spec has no {}".format(key))
        return self.value(key, kind, fallback)

    def value(self, key: str, kind: type, default: Any) -> Any:
        found = self.source.get(key)
        if found is None:
            return default
        if not isinstance(found, kind) or (isinstance(found, bool) and kind is not bool):
            return self._damaged("{} in the spec is not of type {}: {!r}".format(key, kind.__name__, found), default)
        return found

    def one_of(self, key: str, words: Sequence[str]) -> str:
        """One of `words`, the first by default."""
        found: str = self.value(key, str, words[0])
        if found not in words:
            found = self._damaged(
                "{} in the spec is not one of {}: {!r}".format(key, ", ".join(words), found), words[0]
            )
        return found

    def nested(self, key: str) -> "Fields":
        return Fields(self.value(key, dict, {}), self._tolerant)

    def seconds(self, key: str, default: Any) -> Any:
        """A duration; MAX_SECONDS is as good as unlimited, so a longer one is cut to it."""
        whole = isinstance(self.source.get(key), int)  # JSON has one kind of number
        found = self._not_negative(key, self.value(key, int if whole else float, default), default)
        return None if found is None else float(min(found, MAX_SECONDS))

    def whole(self, key: str, default: Any) -> Any:
        return self._not_negative(key, self.value(key, int, default), default)

    def strings(self, key: str) -> Tuple[str, ...]:
        found = self.value(key, list, [])
        if not all(isinstance(item, str) for item in found):
            found = self._damaged("{} in the spec is not a list of strings".format(key), [])
        return tuple(found)

    def strings_by_name(self, key: str) -> Dict[str, str]:
        found: Dict[str, str] = self.value(key, dict, {})
        for name, item in found.items():
            if not isinstance(item, str) or not name or "=" in name or "\0" in name + item:
                self._damaged("{} in the spec has no usable value for {!r}".format(key, name), None)
                return {}
        return found

    def _not_negative(self, key: str, found: Any, default: Any) -> Any:
        if found is not None and not 0 <= found < float("inf"):
            return self._damaged("{} in the spec is negative or no number: {!r}".format(key, found), default)
        return found

    def _damaged(self, what: str, default: Any) -> Any:
        if not self._tolerant:
            raise SpecError(what)
        return default
