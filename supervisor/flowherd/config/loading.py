"""Joins all sources of settings into one frozen, checked value. No other module reads settings from the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowherd.config.catalogue import FILE_SUFFIX, PREFIXES, SETTINGS, value_of
from flowherd.config.checking import Problems, checked
from flowherd.config.home_of_user import home_of_user
from flowherd.config.origins import Origin, Source
from flowherd.config.prefect3_sources import DEFAULT_VARIABLES, PREFECT3_NAMES, read_prefect3_sources
from flowherd.config.prefect_file import expand_variables, read_prefect_configuration
from flowherd.config.proxies import Proxies, proxies_of
from flowherd.config.sections import Section, fields_of
from flowherd.config.settings import Settings
from flowherd.config.sources import (
    OTHER_VARIABLES,
    Layer,
    bad_value,
    from_arguments,
    from_environment,
    from_file,
    from_other_variables,
    strongest,
    unknown_variables,
)
from flowherd.config.token_files import SERVER_TOKEN_FILE, tokens_of_home
from flowherd.config.toml_files import known_values, read_toml, refuse_unknown, suggestion
from flowherd.config.urls import without_user
from flowherd.errors import ConfigurationError
from flowherd.private_directory import check_private_directory

#: Name of the file in the data directory by which it is known that a database is being converted.
CONVERTING_FILE = "converting"
HOME_VARIABLE = "FLOWHERD_HOME"
DEFAULT_HOME = "~/.flowherd"
#: Name of flowherd's own configuration file in its home.
CONFIG_FILE = "config.toml"
#: Name of the file in the home in which a running embedded server announces itself.
SERVER_FILE = "server.json"
#: Why no home directory is known.
_NO_HOME = f"HOME is not set, and user {os.getuid()} has no entry in the password database"
#: What is shown instead of a secret.
MASK = "********"


@dataclass(frozen=True, kw_only=True)
class Paths:
    """Where flowherd keeps its files; all paths are absolute."""

    home: Path
    #: The agent's state directory.
    state_dir: Path
    #: The embedded server's data directory.
    data_dir: Path
    server_file: Path
    #: The file with the embedded server's token, which need not exist.
    token_file: Path
    #: flowherd's own configuration file, which need not exist.
    config_file: Path

    @property
    def agents_dir(self) -> Path:
        """The directory with the state directories of this home's agents, except those that --state-dir moved."""
        return self.home / "agents"

    @property
    def converting_file(self) -> Path:
        """A file that the embedded server has in its data directory while it converts a database, for minutes maybe."""
        return self.data_dir / CONVERTING_FILE


@dataclass(frozen=True, kw_only=True)
class LoadedSettings:
    """Settings with their origins."""

    settings: Settings
    #: The origin of every setting by dotted name.
    origins: Mapping[str, Origin]
    #: Problems that a person should know of but that prevent nothing.
    warnings: tuple[str, ...]
    paths: Paths
    #: The proxies of the environment.
    proxies: Proxies = field(default_factory=Proxies)
    #: Settings of the engine of runs that files of the engine's own set, as variables.
    engine_variables: Mapping[str, str] = field(default_factory=dict)

    def masked(self, dotted: str) -> Any:
        """Return the value of a setting in a form that may be shown."""
        value = value_of(self.settings, dotted)
        if SETTINGS[dotted].secret:
            return MASK if value else ""
        if isinstance(value, list):
            return [_as_mapping(item) for item in value]
        if SETTINGS[dotted].masked:
            return dict.fromkeys(value, MASK)
        return without_user(value) if isinstance(value, str) else value


def _as_mapping(item: Any) -> Any:
    if not isinstance(item, Section):
        return item
    fields, values = fields_of(type(item)), item.values(without_defaults=True)
    return {name: MASK if fields[name].text.secret else value for name, value in values.items()}


def load_settings(
    overrides: Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    config_file: Path | None = None,
    argument_names: Mapping[str, str] | None = None,
) -> LoadedSettings:
    """Read all sources and check every value.

    `overrides` are arguments by dotted name, None meaning not given; `argument_names` are their flags, for messages.
    `environ` defaults to that of the process. `config_file` replaces flowherd's own file and must exist.

    Raises ConfigurationError, which names the setting and the source of the bad value, or says why the home directory
    is not used.
    """
    environ = os.environ if environ is None else environ
    arguments = from_arguments(overrides or {}, argument_names or {})
    prefect = read_prefect_configuration(_prefect_path(environ), _backend_path(environ), environ)
    environments = [
        from_environment(known, prefix) for prefix, known in zip(PREFIXES, (environ, prefect.environ), strict=True)
    ]
    home = _home([arguments, *environments], environ)
    check_private_directory(home, "home directory")
    own_path = config_file or home / CONFIG_FILE
    own = _own_file(own_path, must_exist=config_file is not None)
    prefect3 = read_prefect3_sources(environ)
    fallbacks: Layer = {"home": (str(home), _home_origin(environ))}
    origins: dict[str, Origin] = {}
    tokens = tokens_of_home(home)
    stronger = [arguments, *environments, from_other_variables(prefect.environ), prefect3.variables]
    weaker = [own, tokens, prefect.file, prefect3.files, prefect3.defaults, prefect.address, fallbacks]
    settings = _checked([*stronger, *weaker], origins)
    if settings.uses_work_pool and prefect3.refusals:
        raise ConfigurationError("; ".join(prefect3.refusals))
    return LoadedSettings(
        settings=settings,
        origins={dotted: origins.get(dotted, Origin(source=Source.DEFAULT)) for dotted in SETTINGS},
        warnings=(
            *_unknown_warnings(environ),
            *_secret_warnings([own, {name: prefect.file[name] for name in prefect.file.keys() - prefect.referred}]),
            *prefect.warnings,
            *(prefect3.warnings if settings.uses_work_pool else ()),
        ),
        paths=_paths(settings, own_path, environ),
        proxies=proxies_of(environ),
        engine_variables=prefect3.for_runs if settings.uses_work_pool else {},
    )


def variables_of(dotted: str) -> list[str]:
    """Return all environment variables that set a setting, the strongest first."""
    setting = SETTINGS[dotted]
    suffixes = ("", FILE_SUFFIX) if setting.secret else ("",)
    found = [setting.variable(prefix) + suffix for prefix in PREFIXES for suffix in suffixes]
    if dotted == "home":
        found.append(HOME_VARIABLE)
    others = [OTHER_VARIABLES, PREFECT3_NAMES, DEFAULT_VARIABLES]
    return found + [name for names in others for name, setting_name in names.items() if setting_name == dotted]


def _checked(layers: list[Layer], origins: dict[str, Origin]) -> Settings:
    try:
        return checked(Settings, strongest(layers, origins))
    except Problems as error:
        raise _explained(error, layers, origins) from None


def _explained(error: Problems, layers: list[Layer], origins: Mapping[str, Origin]) -> ConfigurationError:
    messages = {}
    for problem in error.found:
        parts = problem.path
        dotted = next(name for name in (".".join(parts[:end]) for end in range(len(parts), 0, -1)) if name in SETTINGS)
        value = next(layer[dotted][0] for layer in layers if dotted in layer)
        messages[dotted] = str(bad_value(SETTINGS[dotted], value, origins[dotted], problem.allowed))
    return ConfigurationError("; ".join(messages.values()))


def _home(layers: list[Layer], environ: Mapping[str, str]) -> Path:
    given = next((str(layer["home"][0]) for layer in layers if "home" in layer), None) or environ.get(HOME_VARIABLE)
    if not given and home_of_user(environ) is None:
        raise ConfigurationError(
            f"no home directory is known, so set {HOME_VARIABLE} to the directory in which flowherd is to keep its "
            f"files; {_NO_HOME}"
        )
    return _absolute(given or DEFAULT_HOME, environ)


def _home_origin(environ: Mapping[str, str]) -> Origin:
    if environ.get(HOME_VARIABLE):
        return Origin(source=Source.ENVIRONMENT, name=HOME_VARIABLE)
    return Origin(source=Source.DEFAULT)


def _own_file(path: Path, *, must_exist: bool) -> Layer:
    data = read_toml(path)
    if data is None:
        if must_exist:
            raise ConfigurationError(f"there is no configuration file {path}")
        return {}
    if "home" in data:
        raise ConfigurationError(f"{path}: home cannot be set in this file, which is in it; set {HOME_VARIABLE}")
    refuse_unknown(data, path)
    return from_file(known_values(data), path, Source.FILE)


def _prefect_path(environ: Mapping[str, str]) -> Path | None:
    given = environ.get("PREFECT__USER_CONFIG_PATH")
    if given:
        return _absolute(expand_variables(given, environ), environ)
    home = environ.get("PREFECT__HOME_DIR")
    if not home and home_of_user(environ) is None:
        return None
    return _absolute(home or "~/.prefect", environ) / CONFIG_FILE


def _backend_path(environ: Mapping[str, str]) -> Path | None:
    given = environ.get("PREFECT__BACKEND_CONFIG_PATH")
    if not given and home_of_user(environ) is None:
        return None
    return _absolute(expand_variables(given or "~/.prefect/backend.toml", environ), environ)


def _unknown_warnings(environ: Mapping[str, str]) -> list[str]:
    prefix = PREFIXES[0]
    known = [setting.variable(prefix) for setting in SETTINGS.values()]
    return [
        f"the environment variable {name} is not a setting{suggestion(name, known)}"
        for name in unknown_variables(environ, prefix)
    ]


def _secret_warnings(files: list[Layer]) -> list[str]:
    warnings = []
    for layer in files:
        secrets = [dotted for dotted, (value, _) in layer.items() if value and SETTINGS[dotted].secret]
        path = layer[secrets[0]][1].path if secrets else None
        if path is not None and path.stat().st_mode & 0o077:
            warnings.append(f"{path} contains {', '.join(secrets)}, but other users may read it; chmod 600 it")
    return warnings


def _paths(settings: Settings, config_file: Path, environ: Mapping[str, str]) -> Paths:
    home = _absolute(settings.home, environ)
    state_dir = settings.agent.state_dir or str(home / "agents" / slug(settings.cloud.agent.name))
    return Paths(
        home=home,
        state_dir=_absolute(state_dir, environ),
        data_dir=_absolute(settings.server.data_dir or str(home / "server"), environ),
        server_file=home / SERVER_FILE,
        token_file=home / SERVER_TOKEN_FILE,
        config_file=config_file,
    )


def _absolute(text: str, environ: Mapping[str, str]) -> Path:
    if text == "~" or text.startswith("~/"):
        home = home_of_user(environ)
        if home is None:
            raise ConfigurationError(f"{text}: no home directory is known; {_NO_HOME}")
        text = str(home) + text[1:]
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as error:  # ~NAME, and there is no such user
        raise ConfigurationError(f"{text}: {error}") from error


def slug(name: str) -> str:
    """Return `name` as a file name of lower case letters, digits and hyphens, never empty."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "agent"
