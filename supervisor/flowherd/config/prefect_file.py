"""Reads the configuration of Prefect 0.x and 1.x by its own rules (prefect/configuration.py of 0.13.1 and 1.4.1).

backend.toml is stronger than the user's file, and variables are stronger than both. In texts, $NAME and ${NAME} are
variables of the environment if there are such, ~ at the beginning is the home directory, and ${section.key} is another
value of the configuration, empty if there is none. Texts inside of lists have no references. Unlike in Prefect, a value
that is only a reference to nothing counts as not set.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowherd.config.catalogue import PREFIXES, SETTINGS, SettingInfo, Shape
from flowherd.config.home_of_user import home_of_user
from flowherd.config.origins import Origin, Source
from flowherd.config.sources import Layer, from_file
from flowherd.config.toml_files import flattened, known_values, place_of, read_toml
from flowherd.errors import ConfigurationError

#: The parts of a dotted name.
_Key = tuple[str, ...]

_PREFIX = PREFIXES[1]
_VARIABLE = re.compile(r"\$(\w+|\{[^}]*\})")
_REFERENCE = re.compile(r"\$\{(.[^${}]*)\}")
#: How often Prefect follows references from one value to another.
_ROUNDS = 10
#: Prefect's defaults for where its server is. People copy them into files of their own, so they are no choice there.
_DEFAULTS: Mapping[_Key, str] = {
    ("home_dir",): "~/.prefect",
    ("server", "host"): "http://localhost",
    ("server", "port"): "4200",
    ("server", "endpoint"): "${server.host}:${server.port}",
    ("cloud", "endpoint"): "https://api.prefect.io",
    ("cloud", "api"): "${${backend}.endpoint}",
    ("cloud", "graphql"): "${cloud.api}/graphql",
}
#: The values that lead to a server, by the backend that is chosen; the first is its address.
_ADDRESSES: Mapping[str, tuple[_Key, ...]] = {
    "server": (("server", "endpoint"), ("server", "host"), ("server", "port")),
    "cloud": (("cloud", "endpoint"),),
}
_API_KEY = ("cloud", "api_key")
#: Sections of Prefect that hold settings of flowherd too.
_SECTIONS = frozenset({"server", "cloud", "cloud.agent", "logging"})
_TOKEN = "cloud.agent.auth_token"


@dataclass(frozen=True, kw_only=True)
class PrefectConfiguration:
    """What Prefect's configuration says about the settings."""

    #: The settings of the user's file.
    file: Layer
    #: Those of them whose values are elsewhere: in variables that the file names.
    referred: frozenset[str]
    #: The environment, with the values of PREFECT__ variables as Prefect reads them.
    environ: Mapping[str, str]
    #: What a person should know of the file.
    warnings: tuple[str, ...]
    #: The address of the API, if the configuration says where the server is and not what the API's address is.
    address: Layer


def read_prefect_configuration(
    user_file: Path | None, backend_file: Path | None, environ: Mapping[str, str]
) -> PrefectConfiguration:
    """Read both files, which need not exist, and the PREFECT__ variables.

    Raises ConfigurationError, with file and line, if a file is not TOML or a value in it cannot be used.
    """
    data = _read(user_file)
    if user_file is not None:
        _refuse_values_for_sections(data, user_file)
    of_user, of_backend = dict(_leaves(data)), dict(_leaves(_read(backend_file)))
    files = {key: value for key, value in {**of_user, **of_backend}.items() if value != _DEFAULTS.get(key, _ABSENT)}
    variables = {_key(name): value for name, value in environ.items() if name.startswith(_PREFIX)}
    resolved = _resolve({**_DEFAULTS, ("backend",): "server", **files, **variables}, environ)
    read = {name: str(resolved[_key(name)]) for name in environ if name.startswith(_PREFIX) and _key(name) in resolved}
    file = {} if user_file is None else _settings(data, files, resolved, user_file)
    return PrefectConfiguration(
        file=file,
        referred=frozenset(
            name for name, (value, origin) in file.items() if files.get(tuple((origin.key or name).split("."))) != value
        ),
        environ={**environ, **read},
        warnings=tuple(_warnings_of(file, environ)),
        address=_address(variables, of_backend, files, resolved, (user_file, backend_file)),
    )


_ABSENT = object()


def _read(path: Path | None) -> dict[str, Any]:
    return (read_toml(path) or {}) if path is not None else {}


def _refuse_values_for_sections(data: Mapping[str, Any], path: Path) -> None:
    for dotted, value in flattened(data):
        if dotted in _SECTIONS and not isinstance(value, Mapping):
            raise ConfigurationError(f"{place_of(path, dotted)}: {dotted} is a section, [{dotted}], not a value")


def _warnings_of(file: Layer, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield a warning for each value that names a variable that is not set: like Prefect, it is used as it stands."""
    for dotted, (value, origin) in file.items():
        named = _VARIABLE.findall(value) if isinstance(value, str) else []
        missing = [f"${name}" for name in named if name.strip("{}") not in environ]
        if missing and origin.path is not None:
            place = place_of(origin.path, origin.key or dotted)
            # Of a secret, what looks like a variable may be a part.
            what = "a variable" if SETTINGS[dotted].secret else ", ".join(missing)
            yield f"{place}: {dotted} names {what} that is not set, so the text is used as it stands"


def _leaves(data: Mapping[str, Any], above: _Key = ()) -> Iterator[tuple[_Key, Any]]:
    for name, value in data.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*above, name))
        else:
            yield (*above, name), value


def _key(variable: str) -> _Key:
    return tuple(variable[len(_PREFIX) :].lower().split("__"))


def _resolve(values: Mapping[_Key, Any], environ: Mapping[str, str]) -> dict[_Key, Any]:
    """Return the values with variables and references filled in; those that lead to nothing are left out."""
    found = {key: _expand(value, environ) for key, value in values.items()}
    literals = {key for key, value in found.items() if _is_literal(value)}
    for _ in range(_ROUNDS):
        for key, value in found.items():
            reference = _REFERENCE.search(value) if isinstance(value, str) and key not in literals else None
            if reference is not None:
                referred = found.get(tuple(reference[1].split(".")), "")
                whole = value == reference[0]
                found[key] = referred if whole else value.replace(reference[0], str(referred), 1)
    return {key: value for key, value in found.items() if key in literals or not _leads_to_nothing(values[key], value)}


def _is_literal(value: Any) -> bool:
    """Whether a text is a list or the like, which Prefect reads before it looks for references."""
    if not isinstance(value, str) or not value.strip().startswith(("[", "(", "{")):
        return False
    try:
        ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return False
    return True


def _leads_to_nothing(written: Any, value: Any) -> bool:
    if not isinstance(written, str) or not isinstance(value, str) or "${" not in written:
        return False
    return not value or _REFERENCE.search(value) is not None  # after all rounds: a circle


def _expand(value: Any, environ: Mapping[str, str]) -> Any:
    """Return a text with $NAME, ${NAME} and ~ filled in, also those in what was filled in."""
    if not isinstance(value, str):
        return value
    for _ in range(_ROUNDS):
        expanded = expand_variables(value, environ)
        home = home_of_user(environ)
        if home is not None and (expanded == "~" or expanded.startswith("~/")):
            expanded = str(home) + expanded[1:]
        if expanded == value:
            return value
        value = expanded
    return value


def expand_variables(text: str, environ: Mapping[str, str]) -> str:
    """Return a text with $NAME and ${NAME} replaced, except those that are not set."""
    return _VARIABLE.sub(lambda match: environ.get(match[1].strip("{}"), match[0]), text)


def _settings(data: Mapping[str, Any], files: Mapping[_Key, Any], resolved: Mapping[_Key, Any], path: Path) -> Layer:
    """Return the settings of the user's file."""
    values = {}
    for dotted, written in known_values(data).items():
        key = tuple(dotted.split("."))
        if dotted == "home":
            continue
        if isinstance(written, Mapping):
            values[dotted] = {name: resolved[leaf] for name in written if (leaf := (*key, name)) in resolved}
        elif key in files and key in resolved:
            values[dotted] = _typed(SETTINGS[dotted], resolved[key])
    layer = dict(from_file(values, path, Source.PREFECT_FILE))
    api_key = resolved.get(_API_KEY) if _API_KEY in files else None
    if api_key and not values.get(_TOKEN):
        layer[_TOKEN] = (str(api_key), Origin(source=Source.PREFECT_FILE, path=path, key=".".join(_API_KEY)))
    return layer


def _typed(setting: SettingInfo, value: Any) -> Any:
    """Return a value of a file as text if the setting is a text: Prefect does not distinguish the two."""
    is_text = setting.shape is Shape.SCALAR and setting.kind is str
    return str(value) if is_text and isinstance(value, (int, float)) else value


def _address(
    variables: Mapping[_Key, str],
    of_backend: Mapping[_Key, Any],
    files: Mapping[_Key, Any],
    resolved: Mapping[_Key, Any],
    paths: tuple[Path | None, Path | None],
) -> Layer:
    keys = _ADDRESSES.get(str(resolved.get(("backend",))), ())
    chosen = next((key for key in keys if key in variables), None)
    if chosen is not None:
        origin = Origin(source=Source.ENVIRONMENT, name=_PREFIX + "__".join(chosen).upper())
    else:
        chosen = next((key for key in keys if key in files), None)
        if chosen is None:
            return {}
        path = paths[1] if chosen in of_backend else paths[0]
        origin = Origin(source=Source.PREFECT_FILE, path=path, key=".".join(chosen))
    return {"cloud.api": (str(resolved.get(keys[0], "")), origin)}
