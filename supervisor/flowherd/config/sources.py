"""The places that settings come from, as pydantic-settings sources, the strongest first.

    arguments > FLOWHERD__* > PREFECT__* > Prefect 1's API key > flowherd's own file > Prefect's file > defaults

pydantic-settings would merge a mapping that two sources set; here the stronger source's value stands alone, so each
source gives only what no stronger one has given, and notes where it had it from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from flowherd.config.catalogue import FILE_SUFFIX, LEAVES, Leaf
from flowherd.config.config_values import from_text, plain
from flowherd.config.origins import Origin, Source
from flowherd.errors import ConfigurationError

#: Prefect 1's name for what Prefect 0.13 had in PREFECT__CLOUD__AGENT__AUTH_TOKEN; its agents know no other.
API_KEY = "PREFECT__CLOUD__API_KEY"

#: A setting as a source has it: its value and where it is from.
Found = Mapping[str, tuple[Any, Origin]]


class FoundSource(PydanticBaseSettingsSource):
    """One source: values by dotted name. `origins` gets an entry for each value that is used."""

    def __init__(self, settings_cls: type[BaseSettings], found: Found, origins: dict[str, Origin]) -> None:
        super().__init__(settings_cls)
        self._found = found
        self._origins = origins

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Not used: this source answers for all fields together in `__call__`."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """The nested values of this source, as pydantic-settings wants them."""
        state: dict[str, Any] = {}
        for dotted, (value, origin) in self._found.items():
            if dotted not in self._origins:
                self._origins[dotted] = origin
                _put(state, dotted.split("."), value)
        return state


def _put(state: dict[str, Any], parts: list[str], value: Any) -> None:
    for part in parts[:-1]:
        state = state.setdefault(part, {})
    state[parts[-1]] = value


def from_arguments(overrides: Mapping[str, Any], names: Mapping[str, str]) -> Found:
    """Values given as arguments or flags; None is not given. `names` says by which flag.

    Raises KeyError for a name that is no setting: that is a fault of the caller.
    """
    return {
        dotted: (plain(LEAVES[dotted], value), Origin(source=Source.ARGUMENT, name=names.get(dotted, "")))
        for dotted, value in overrides.items()
        if value is not None
    }


def from_environment(environ: Mapping[str, str], prefix: str) -> Found:
    """Values of the variables with this prefix; a secret may also lie in a file that VARIABLE_FILE names."""
    found: dict[str, tuple[Any, Origin]] = {}
    for leaf in LEAVES.values():
        name = leaf.variable(prefix)
        if name in environ:
            origin = Origin(source=Source.ENVIRONMENT, name=name)
            found[leaf.dotted] = (_read_text(leaf, environ[name], origin), origin)
        elif leaf.secret and environ.get(name + FILE_SUFFIX):
            path = Path(environ[name + FILE_SUFFIX])
            origin = Origin(source=Source.ENVIRONMENT, name=name + FILE_SUFFIX, path=path)
            found[leaf.dotted] = (read_secret_file(path, name + FILE_SUFFIX), origin)
    return found


def from_api_key(environ: Mapping[str, str]) -> Found:
    """The agent's token, where the environment has an API key of Prefect 1."""
    key = environ.get(API_KEY)
    origin = Origin(source=Source.ENVIRONMENT, name=API_KEY)
    return {"cloud.agent.auth_token": (key, origin)} if key else {}


def from_file(values: Mapping[str, Any], path: Path, source: Source) -> Found:
    """Values of a configuration file; text that holds a list or mapping is read as such."""
    origin = Origin(source=source, path=path)
    return {dotted: (_read_plain(LEAVES[dotted], value, origin), origin) for dotted, value in values.items()}


def read_secret_file(path: Path, variable: str) -> str:
    """The secret in a file that nobody but its owner may read.

    Raises ConfigurationError when it cannot be read or others may read it.
    """
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{variable} names {path}, which cannot be read: {error}") from error
    if mode & 0o077:
        raise ConfigurationError(
            f"{variable} names {path}, which others than its owner may read (mode {mode & 0o777:04o}); chmod 600 it"
        )
    return text


def unknown_variables(environ: Iterable[str], prefix: str) -> list[str]:
    """Variables that begin as settings do and are none."""
    known = {leaf.variable(prefix) for leaf in LEAVES.values()}
    known |= {leaf.variable(prefix) + FILE_SUFFIX for leaf in LEAVES.values() if leaf.secret}
    return sorted(name for name in environ if name.startswith(prefix) and name not in known)


def _read_text(leaf: Leaf, text: str, origin: Origin) -> Any:
    try:
        return from_text(leaf, text)
    except ValueError as error:
        raise bad_value(leaf, text, origin, str(error)) from error


def _read_plain(leaf: Leaf, value: Any, origin: Origin) -> Any:
    try:
        return plain(leaf, value)
    except ValueError as error:
        raise bad_value(leaf, value, origin, str(error)) from error


def bad_value(leaf: Leaf, value: Any, origin: Origin, allowed: str) -> ConfigurationError:
    """The error for a value that cannot be used."""
    shown = "(not shown)" if leaf.secret or leaf.masked else repr(value)
    return ConfigurationError(f"{leaf.dotted} = {shown} from {origin} cannot be used: {allowed}")
