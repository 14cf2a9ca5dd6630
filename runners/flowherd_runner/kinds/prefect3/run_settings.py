"""Makes the Prefect 3 of a forked process the run's own: its settings, and what was made of them at import.

Nothing of a run has happened in the fork server, so clients, loops, threads, database engines and caches of answers do
not exist there. What does exist from the import, for it comes from the environment, is renewed here; it is left as it
is where the run's environment says the same as the one that the fork server imported Prefect in.
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

#: Files of the working directory that Prefect reads settings from, and what is in one that has any.
_FILES = {
    "prefect.toml": re.compile(rb"\S"),
    "pyproject.toml": re.compile(rb"\btool\b.*prefect|^\s*[\"']?prefect[\"']?\s*[.=]", re.MULTILINE),
    ".env": re.compile(rb"prefect", re.IGNORECASE),
}

#: Begins variables that tell the engine of its run, and are no settings.
_ABOUT_THE_RUN = "PREFECT__"


class Origin(NamedTuple):
    """What Prefect's settings come from."""

    variables: Dict[str, str]
    home: str
    #: Of every file that is there.
    files: List[Stamp]


class Imported(NamedTuple):
    """What Prefect made of the environment in which it was imported."""

    origin: Origin
    logging: Dict[str, Any]


_imported: Optional[Imported] = None


def note_import() -> None:
    """Remember what Prefect has just been imported with. Called in the fork server."""
    global _imported
    config = _logging_module().PROCESS_LOGGING_CONFIG
    _imported = Imported(origin(), copy.deepcopy(dict(config)))


def renew() -> None:
    """Let Prefect know what it would know had it been imported just now. Raises what Prefect raises for bad values."""
    if _imported is not None and _imported.origin == origin():
        _renew_logging(_imported.logging)
        return
    _renew_home()
    _file_cache().clear()
    prefect_compat.renew_settings_context()
    _renew_logging(None)


def origin() -> Origin:
    """What settings that are made now come from."""
    named = {name: value for name, value in os.environ.items() if name.upper().startswith("PREFECT_")}
    variables = {name: value for name, value in named.items() if not name.startswith(_ABOUT_THE_RUN)}
    known: Any = importlib.import_module("prefect.settings").get_current_settings()
    here = [name for name, settings in _FILES.items() if settings.search(_content(name))]
    # Where the variables are the same, so are these paths.
    stamps = map(stamp, [*here, known.profiles_path, known.logging.config_path])
    return Origin(variables, str(Path.home()), [found for found in stamps if found is not None])


def _content(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def _renew_home() -> None:
    """The path is taken from HOME when Prefect is imported, and copied into a module of its own."""
    home = Path.home() / ".prefect"
    for name in ("prefect.settings.constants", "prefect.settings.sources"):
        module: Any = importlib.import_module(name)
        if hasattr(module, "DEFAULT_PREFECT_HOME"):
            module.DEFAULT_PREFECT_HOME = home


def _file_cache() -> Any:
    return getattr(importlib.import_module("prefect.settings.sources"), "_file_cache", {})


def _renew_logging(config: Optional[Dict[str, Any]]) -> None:
    """Loggers, levels and handlers as the run's settings have them; those of an earlier configuration are put back.

    `config` is what Prefect would read from its settings, where that is known: reading it takes a tenth of a second.
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
