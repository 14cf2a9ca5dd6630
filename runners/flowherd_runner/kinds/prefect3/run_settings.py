"""Gives the Prefect 3 of a forked process the run's settings, and renews what was derived from them at import.

The fork server has run no flow, so it has no clients, loops, threads, database engines or caches of answers. What the
import has made from the environment is renewed here, unless the run's environment has the same settings as the one in
which the fork server imported Prefect.
"""

import copy
import importlib
import logging
import os
import re
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

from flowherd_runner.kinds.prefect3 import prefect_compat
from flowherd_runner.kinds.prefect3.file_stamp import Stamp, stamp

#: Files of the working directory that Prefect reads settings from, and a pattern that is found in one with settings.
_FILES = {
    "prefect.toml": re.compile(rb"\S"),
    "pyproject.toml": re.compile(rb"\btool\b.*prefect|^\s*[\"']?prefect[\"']?\s*[.=]", re.MULTILINE),
    ".env": re.compile(rb"prefect", re.IGNORECASE),
}

#: Prefix of variables that describe the run to the engine and are not settings.
_ABOUT_THE_RUN = "PREFECT__"


class Sources(NamedTuple):
    """What Prefect's settings are made from."""

    variables: Dict[str, str]
    home: str
    #: Stamps of those files that exist.
    files: List[Stamp]


class Imported(NamedTuple):
    """What Prefect made of the environment in which it was imported."""

    sources: Sources
    logging: Dict[str, Any]


_imported: Optional[Imported] = None


def note_import() -> None:
    """Remember from what Prefect has just made its settings. Called in the fork server."""
    global _imported
    config = _logging_module().PROCESS_LOGGING_CONFIG
    _imported = Imported(sources(), copy.deepcopy(dict(config)))


def renew() -> None:
    """Bring Prefect into the state of a new import. Raises what Prefect raises for bad values."""
    if _imported is not None and _imported.sources == sources():
        _renew_logging(_imported.logging)
        return
    _renew_home()
    _file_cache().clear()
    prefect_compat.renew_settings_context()
    _renew_logging(None)


def sources() -> Sources:
    """Return from what settings would be made now."""
    named = {name: value for name, value in os.environ.items() if name.upper().startswith("PREFECT_")}
    variables = {name: value for name, value in named.items() if not name.startswith(_ABOUT_THE_RUN)}
    known: Any = importlib.import_module("prefect.settings").get_current_settings()
    here = [name for name, settings in _FILES.items() if settings.search(_content(name))]
    # If the variables are the same, so are these paths.
    stamps = map(stamp, [*here, known.profiles_path, known.logging.config_path])
    return Sources(variables, str(Path.home()), [found for found in stamps if found is not None])


def _content(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def _renew_home() -> None:
    """Renew the path that is made from HOME when Prefect is imported, and its copy in another module."""
    home = Path.home() / ".prefect"
    for name in ("prefect.settings.constants", "prefect.settings.sources"):
        module: Any = importlib.import_module(name)
        if hasattr(module, "DEFAULT_PREFECT_HOME"):
            module.DEFAULT_PREFECT_HOME = home


def _file_cache() -> Any:
    return getattr(importlib.import_module("prefect.settings.sources"), "_file_cache", {})


def _renew_logging(config: Optional[Dict[str, Any]]) -> None:
    """Set up loggers, levels and handlers by the run's settings, after a reset of those of an earlier configuration.

    `config` is what Prefect would read from its settings, if that is known: reading it takes a tenth of a second.
    """
    handlers: Any = importlib.import_module("prefect.logging.handlers")
    prefects = (handlers.APILogHandler, handlers.PrefectConsoleHandler)
    for logger in [logging.getLogger(), *logging.Logger.manager.loggerDict.values()]:
        if isinstance(logger, logging.Logger):
            logger.handlers = [one for one in logger.handlers if not isinstance(one, prefects)]
    module = _logging_module()
    module.PROCESS_LOGGING_CONFIG.clear()
    load = module.load_logging_config
    if config:
        known = {name: value for name, value in config.items() if name != "incremental"}
        module.load_logging_config = lambda path: copy.deepcopy(known)
    try:
        module.setup_logging(incremental=False)
    finally:
        module.load_logging_config = load


def _logging_module() -> Any:
    return importlib.import_module("prefect.logging.configuration")
