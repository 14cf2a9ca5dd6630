"""Replaces slow functions of Prefect in the fork server by faster ones with the same result, so that runs start sooner.

Every step of Prefect's engine enters a context, and every context merges the whole configuration with itself.
"""

import importlib
from typing import Any, Callable, Dict


def install() -> None:
    """Install them in this process, for its forks too. A Prefect that does not have these functions is not changed."""
    configuration: Any = importlib.import_module("prefect.configuration")
    context: Any = importlib.import_module("prefect.utilities.context")
    if hasattr(context, "merge_dicts"):
        context.merge_dicts = _merging(context.merge_dicts)
    if hasattr(configuration, "Config"):
        _shorten_copy(configuration.Config, configuration.config)
    if hasattr(configuration, "load_toml") and hasattr(configuration, "DEFAULT_CONFIG"):
        configuration.load_toml = _reading(configuration.load_toml, configuration.DEFAULT_CONFIG)


def _merging(merge_dicts: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def merge(first: Any, second: Any) -> Any:
        # Equal mappings need not be merged key by key.
        return first.copy() if not second or first == second else merge_dicts(first, second)

    return merge


def _shorten_copy(kind: Any, example: Any) -> None:
    """Make copies of a section take its items unchanged: they were converted and checked when they were first set."""
    original = kind.copy

    def copy(self: Any) -> Any:
        new = kind()
        dict.update(new, {key: one.copy() if type(one) is kind else one for key, one in dict.items(self)})
        return new

    if _is_same(copy(example), original(example)):
        kind.copy = copy


def _is_same(one: Any, other: Any) -> bool:
    if type(one) is not type(other) or one != other:
        return False
    return not isinstance(one, dict) or all(_is_same(one[key], other[key]) for key in other)


def _reading(load_toml: Callable[[str], Dict[str, Any]], path: str) -> Callable[[str], Dict[str, Any]]:
    defaults = load_toml(path)

    def load(asked: str) -> Dict[str, Any]:
        return _copied(defaults) if asked == path else load_toml(asked)

    return load


def _copied(value: Dict[str, Any]) -> Dict[str, Any]:
    return {key: _copied(one) if isinstance(one, dict) else one for key, one in value.items()}
