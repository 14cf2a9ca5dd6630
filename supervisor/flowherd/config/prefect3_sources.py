"""Settings that Prefect 3's own client has too, from the places where it looks for them, in its order:

    variables > .env, prefect.toml, pyproject.toml of the working directory > the active profile > SSL_CERT_FILE

A bad prefect.toml or pyproject.toml is refused, as Prefect refuses it, but only if a work pool is served: they may be
meant for other programs. Profiles that cannot be read are a warning, as in Prefect.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowherd.config.catalogue import SETTINGS
from flowherd.config.home_of_user import home_of_user
from flowherd.config.origins import Origin, Source
from flowherd.config.sources import Layer, read_text
from flowherd.config.toml_files import read_toml
from flowherd.errors import ConfigurationError

_PREFIX = "PREFECT_"
#: Our setting for each of Prefect 3's.
PREFECT3_NAMES = {
    "PREFECT_API_URL": "prefect3.api",
    "PREFECT_API_KEY": "prefect3.api_key",
    "PREFECT_API_AUTH_STRING": "prefect3.auth_string",
    "PREFECT_API_SSL_CERT_FILE": "prefect3.ssl_cert_file",
    "PREFECT_API_TLS_INSECURE_SKIP_VERIFY": "prefect3.tls_insecure_skip_verify",
    "PREFECT_API_REQUEST_TIMEOUT": "prefect3.request_timeout",
    "PREFECT_CLIENT_CUSTOM_HEADERS": "prefect3.custom_headers",
    "PREFECT_LOGGING_TO_API_ENABLED": "prefect3.logging_to_api",
}
#: What takes the place of a setting that is set nowhere else.
DEFAULT_VARIABLES = {"SSL_CERT_FILE": "prefect3.ssl_cert_file"}
#: The profiles that Prefect has if there is no file of them, as far as they say something about the API.
_BUILT_IN = {"ephemeral": {}, "local": {"PREFECT_API_URL": "http://127.0.0.1:4200/api"}, "test": {}, "cloud": {}}
#: Settings of Prefect that are pairs: in TOML a section.
_PAIRS = frozenset({"PREFECT_CLIENT_CUSTOM_HEADERS"})
_PROFILES = "PREFECT_PROFILES_PATH"
#: Settings of files that are not handed to runs: where the files are, and what concerns a server of Prefect's own.
_NOT_FOR_RUNS = (_PROFILES, "PREFECT_HOME", "PREFECT_SERVER_", "PREFECT_API_DATABASE_")


@dataclass(frozen=True, kw_only=True)
class Prefect3Sources:
    """What Prefect 3's settings say."""

    variables: Layer = field(default_factory=dict)
    files: Layer = field(default_factory=dict)
    defaults: Layer = field(default_factory=dict)
    #: The settings of files that Prefect's worker hands to its runs as variables.
    for_runs: Mapping[str, str] = field(default_factory=dict)
    #: Why a file cannot be used: what Prefect refuses, and what it warns of.
    refusals: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def read_prefect3_sources(environ: Mapping[str, str]) -> Prefect3Sources:
    """Read the variables, the files of the working directory, and the profile.

    Raises ConfigurationError if a value for a setting of flowherd cannot be read.
    """
    refusals: list[str] = []
    warnings: list[str] = []
    here = [
        _dotenv(Path(".env")),
        _toml(Path("prefect.toml"), (), refusals),
        _toml(Path("pyproject.toml"), ("tool", "prefect"), refusals),
    ]
    profiles = _profiles_path(environ, here)
    named = [*here, _profile(profiles, environ, warnings)] if profiles is not None else here
    merged: dict[str, tuple[str, Origin]] = {}
    for values in reversed(named):
        merged.update(values)
    is_test = any(environ.get(name) for name in _TEST_MODES)
    return Prefect3Sources(
        variables=_layer({name.upper(): (text, _variable(name)) for name, text in environ.items()}),
        files={} if is_test else _layer(merged),
        defaults={
            dotted: (environ[name], _variable(name)) for name, dotted in DEFAULT_VARIABLES.items() if environ.get(name)
        },
        for_runs={name: text for name, (text, _) in merged.items() if not name.startswith(_NOT_FOR_RUNS)},
        refusals=tuple(refusals),
        warnings=tuple(warnings),
    )


#: In its own tests Prefect reads no profile.
_TEST_MODES = ("PREFECT_TEST_MODE", "PREFECT_UNIT_TEST_MODE", "PREFECT_TESTING_UNIT_TEST_MODE")

#: Settings by Prefect's name, as text.
_Named = dict[str, tuple[str, Origin]]


def _variable(name: str) -> Origin:
    return Origin(source=Source.ENVIRONMENT, name=name)


def _layer(named: Mapping[str, tuple[str, Origin]]) -> Layer:
    """Return the values of flowherd's settings; an empty text is not set."""
    return {
        dotted: (read_text(SETTINGS[dotted], *named[name]), named[name][1])
        for name, dotted in PREFECT3_NAMES.items()
        if name in named and named[name][0]
    }


def _dotenv(path: Path) -> _Named:
    """Read NAME=VALUE lines, with `export`, quotes and comments as programs usually allow them."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    origin = Origin(source=Source.PREFECT_FILE, path=path.absolute())
    found = {}
    for line in lines:
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        name, value = name.strip().upper(), value.strip()
        if equals and name.startswith(_PREFIX):
            quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
            found[name] = (value[1:-1] if quoted else value.partition(" #")[0].rstrip(), origin)
    return found


def _toml(path: Path, above: tuple[str, ...], refusals: list[str]) -> _Named:
    try:
        data: Any = read_toml(path.absolute()) or {}
    except ConfigurationError as error:
        refusals.append(str(error))
        return {}
    except OSError:  # there is no working directory any more
        return {}
    for part in above:
        data = _mapping(data.get(part))
    return {
        name: (text, Origin(source=Source.PREFECT_FILE, path=path.absolute(), key=".".join((*above, key))))
        for key, name, text in _settings(data)
    }


def _settings(data: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, str, str]]:
    """Return the dotted key, Prefect's name and the text of each setting in a file of sections."""
    for key, value in data.items():
        parts = (*above, str(key))
        name = _PREFIX + "_".join(parts).upper()
        if isinstance(value, dict) and name not in _PAIRS:
            yield from _settings(value, parts)
        else:
            yield ".".join(parts), name, _text(value)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return json.dumps(value) if isinstance(value, (dict, bool)) else str(value)


def _profile(path: Path, environ: Mapping[str, str], warnings: list[str]) -> _Named:
    """Return the settings of the profile that PREFECT_PROFILE names, else of the one that the file calls active."""
    try:
        data = read_toml(path)
    except ConfigurationError as error:
        warnings.append(f"no profile of Prefect is used: {error}")
        return {}
    is_usual = not environ.get("PREFECT_HOME") and not environ.get(_PROFILES)
    if data is None:
        data = {"profiles": _BUILT_IN if is_usual else {}}
    profiles = _mapping(data.get("profiles"))
    chosen = environ.get("PREFECT_PROFILE") or data.get("active")
    if chosen and chosen not in profiles:
        by = "PREFECT_PROFILE" if environ.get("PREFECT_PROFILE") else "active"
        warnings.append(f"{by} names the profile {chosen!r}, which is not in {path}; none is used")
    return {
        str(name): (_text(value), Origin(source=Source.PREFECT_FILE, path=path, key=f"profiles.{chosen}.{name}"))
        for name, value in _mapping(profiles.get(chosen)).items()
        if str(name).startswith(_PREFIX)
    }


def _profiles_path(environ: Mapping[str, str], here: list[_Named]) -> Path | None:
    given = environ.get(_PROFILES) or next((values[_PROFILES][0] for values in here if _PROFILES in values), None)
    if given:
        return Path(given).absolute()
    if environ.get("PREFECT_HOME"):
        return Path(environ["PREFECT_HOME"]) / "profiles.toml"
    home = home_of_user(environ)
    return home / ".prefect" / "profiles.toml" if home is not None else None


def _mapping(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, dict) else {}
