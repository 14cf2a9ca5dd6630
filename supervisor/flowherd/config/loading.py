"""From all sources to one frozen, checked value: `load_settings`. Nobody reads the environment or a file later."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from flowherd.config.catalogue import LEAVES, PREFIXES, value_of
from flowherd.config.origins import Origin, Source
from flowherd.config.prefect3_sources import from_profile, from_variables
from flowherd.config.settings import Settings
from flowherd.config.sources import (
    Found,
    FoundSource,
    bad_value,
    from_api_key,
    from_arguments,
    from_environment,
    from_file,
    unknown_variables,
)
from flowherd.config.toml_files import known_values, read_toml, refuse_unknown, resolve_references, suggestion
from flowherd.errors import ConfigurationError

HOME_VARIABLE = "FLOWHERD_HOME"
DEFAULT_HOME = "~/.flowherd"
#: flowherd's own file, under its home.
CONFIG_FILE = "config.toml"
#: What a running embedded server writes about itself, under the home.
SERVER_FILE = "server.json"
MASK = "********"


@dataclass(frozen=True, kw_only=True)
class Paths:
    """Where flowherd keeps what it keeps; all absolute."""

    home: Path
    #: The agent's state directory.
    state_dir: Path
    #: The embedded server's data directory.
    data_dir: Path
    server_file: Path
    #: flowherd's own configuration file, whether it is there or not.
    config_file: Path

    @property
    def agents_dir(self) -> Path:
        """Where the state directories of this home's agents are, those apart that --state-dir moved."""
        return self.home / "agents"


@dataclass(frozen=True, kw_only=True)
class LoadedSettings:
    """Settings with their origins."""

    settings: Settings
    #: For every setting by dotted name.
    origins: Mapping[str, Origin]
    #: What a person should know and that stops nothing.
    warnings: tuple[str, ...]
    paths: Paths

    def masked(self, dotted: str) -> Any:
        """The value of a setting as it may be shown."""
        value = value_of(self.settings, dotted)
        if LEAVES[dotted].secret:
            return MASK if value else ""
        if LEAVES[dotted].masked:
            return dict.fromkeys(value, MASK)
        return [_plain(item) for item in value] if isinstance(value, list) else value


def _plain(item: Any) -> Any:
    return item.model_dump(exclude_defaults=True) if isinstance(item, BaseModel) else item


def load_settings(
    overrides: Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    config_file: Path | None = None,
    argument_names: Mapping[str, str] | None = None,
) -> LoadedSettings:
    """Read all sources and check every value.

    `overrides` are arguments by dotted name, None meaning not given; `argument_names` tells their flags, for
    messages. `environ` defaults to the process's own. `config_file` stands in for flowherd's own file and must exist.

    Raises ConfigurationError, which names the setting and the source of the bad value.
    """
    environ = os.environ if environ is None else environ
    arguments = from_arguments(overrides or {}, argument_names or {})
    environments = [from_environment(environ, prefix) for prefix in PREFIXES]
    home = _home([arguments, *environments], environ)
    own_path = config_file or home / CONFIG_FILE
    own = _own_file(own_path, must_exist=config_file is not None)
    prefect = _prefect_file(_prefect_path(environ), environ)
    fallbacks: Found = {"home": (str(home), _home_origin(environ))}
    origins: dict[str, Origin] = {}
    weaker = [own, prefect, from_profile(environ), fallbacks]
    settings = _checked([arguments, *environments, from_api_key(environ), from_variables(environ), *weaker], origins)
    return LoadedSettings(
        settings=settings,
        origins={dotted: origins.get(dotted, Origin(source=Source.DEFAULT)) for dotted in LEAVES},
        warnings=(*_unknown_warnings(environ), *_secret_warnings([own, prefect])),
        paths=_paths(settings, own_path, environ),
    )


def _checked(layers: list[Found], origins: dict[str, Origin]) -> Settings:
    class SourcedSettings(Settings, BaseSettings):
        model_config = SettingsConfigDict(frozen=True, extra="ignore", validate_default=False)

        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return tuple(FoundSource(settings_cls, layer, origins) for layer in layers)

    try:
        return SourcedSettings()
    except ValidationError as error:
        raise _explained(error, layers, origins) from None


def _explained(error: ValidationError, layers: list[Found], origins: Mapping[str, Origin]) -> ConfigurationError:
    # `from None` above: pydantic's own text repeats the input, which may be a secret.
    messages = {}
    for problem in error.errors(include_url=False):
        parts = [str(part) for part in problem["loc"]]
        dotted = next(name for name in (".".join(parts[:end]) for end in range(len(parts), 0, -1)) if name in LEAVES)
        value = next(layer[dotted][0] for layer in layers if dotted in layer)
        allowed = re.sub(r"^(Value error, |Input )", "", problem["msg"])
        messages[dotted] = str(bad_value(LEAVES[dotted], value, origins[dotted], _lower_first(allowed)))
    return ConfigurationError("; ".join(messages.values()))


def _lower_first(text: str) -> str:
    return "it " + text if text.startswith("should") else text


def _home(layers: list[Found], environ: Mapping[str, str]) -> Path:
    given = next((str(layer["home"][0]) for layer in layers if "home" in layer), None)
    return _absolute(given or environ.get(HOME_VARIABLE) or DEFAULT_HOME, environ)


def _home_origin(environ: Mapping[str, str]) -> Origin:
    if environ.get(HOME_VARIABLE):
        return Origin(source=Source.ENVIRONMENT, name=HOME_VARIABLE)
    return Origin(source=Source.DEFAULT)


def _own_file(path: Path, *, must_exist: bool) -> Found:
    data = read_toml(path)
    if data is None:
        if must_exist:
            raise ConfigurationError(f"there is no configuration file {path}")
        return {}
    if "home" in data:
        raise ConfigurationError(f"{path}: home cannot be set in the file that lies in it; set {HOME_VARIABLE}")
    refuse_unknown(data, path)
    return from_file(known_values(data), path, Source.FILE)


def _prefect_path(environ: Mapping[str, str]) -> Path:
    given = environ.get("PREFECT__USER_CONFIG_PATH")
    if given:
        return _absolute(given, environ)
    return _absolute(environ.get("PREFECT__HOME_DIR") or "~/.prefect", environ) / CONFIG_FILE


def _prefect_file(path: Path, environ: Mapping[str, str]) -> Found:
    data = read_toml(path)
    if data is None:
        return {}
    values = {dotted: value for dotted, value in known_values(data).items() if dotted != "home"}
    return from_file(resolve_references(values, data, environ), path, Source.PREFECT_FILE)


def _unknown_warnings(environ: Mapping[str, str]) -> list[str]:
    prefix = PREFIXES[0]
    known = [leaf.variable(prefix) for leaf in LEAVES.values()]
    return [
        f"the environment variable {name} is no setting{suggestion(name, known)}"
        for name in unknown_variables(environ, prefix)
    ]


def _secret_warnings(files: list[Found]) -> list[str]:
    warnings = []
    for found in files:
        secrets = [dotted for dotted, (value, _) in found.items() if value and LEAVES[dotted].secret]
        path = found[secrets[0]][1].path if secrets else None
        if path is not None and path.stat().st_mode & 0o077:
            warnings.append(f"{path} holds {', '.join(secrets)} and others than its owner may read it; chmod 600 it")
    return warnings


def _paths(settings: Settings, config_file: Path, environ: Mapping[str, str]) -> Paths:
    home = _absolute(settings.home, environ)
    state_dir = settings.agent.state_dir or str(home / "agents" / slug(settings.cloud.agent.name))
    return Paths(
        home=home,
        state_dir=_absolute(state_dir, environ),
        data_dir=_absolute(settings.server.data_dir or str(home / "server"), environ),
        server_file=home / SERVER_FILE,
        config_file=config_file,
    )


def _absolute(text: str, environ: Mapping[str, str]) -> Path:
    if text == "~" or text.startswith("~/"):
        text = environ.get("HOME", str(Path.home())) + text[1:]
    return Path(text).expanduser().absolute()


def slug(name: str) -> str:
    """`name` as a file name: lower case letters, digits and hyphens; never empty, never a dot."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "agent"
