"""Makes the Prefect 3 of a forked process the run's own: its settings, and what was made of them at import.

Nothing of a run has happened in the fork server, so clients, loops, threads, database engines and caches of answers do
not exist there. What does exist from the import, for it comes from the environment, is renewed here.
"""

import importlib
import logging
import os
from pathlib import Path
from typing import Any, Dict, List, Tuple

#: Files of the working directory that Prefect reads settings from.
_FILES = ("prefect.toml", "pyproject.toml", ".env")

#: Begins variables that tell the engine of its run, and are no settings.
_ABOUT_THE_RUN = "PREFECT__"


def renew() -> None:
    """Let Prefect know what it would know had it been imported just now. Raises what Prefect raises for bad values."""
    _renew_home()
    _file_cache().clear()
    importlib.import_module("prefect.context").refresh_global_settings_context()
    _renew_logging()


def origin() -> Tuple[Dict[str, str], List[str]]:
    """What Prefect's settings come from, so far as a run's preparation may change it: variables, files found here."""
    named = {name: value for name, value in os.environ.items() if name.upper().startswith("PREFECT_")}
    variables = {name: value for name, value in named.items() if not name.startswith(_ABOUT_THE_RUN)}
    return variables, [str(Path(name).resolve()) for name in _FILES if os.path.isfile(name)]


def _renew_home() -> None:
    """The path is taken from HOME when Prefect is imported, and copied into a module of its own."""
    home = Path.home() / ".prefect"
    for name in ("prefect.settings.constants", "prefect.settings.sources"):
        module: Any = importlib.import_module(name)
        if hasattr(module, "DEFAULT_PREFECT_HOME"):
            module.DEFAULT_PREFECT_HOME = home


def _file_cache() -> Any:
    return getattr(importlib.import_module("prefect.settings.sources"), "_file_cache", {})


def _renew_logging() -> None:
    """Loggers, levels and handlers as the run's settings have them; those of an earlier configuration are put back."""
    handlers: Any = importlib.import_module("prefect.logging.handlers")
    prefects = (handlers.APILogHandler, handlers.PrefectConsoleHandler)
    for logger in [logging.getLogger(), *logging.Logger.manager.loggerDict.values()]:
        if isinstance(logger, logging.Logger):
            logger.handlers = [one for one in logger.handlers if not isinstance(one, prefects)]
    module: Any = importlib.import_module("prefect.logging.configuration")
    module.PROCESS_LOGGING_CONFIG.clear()
    module.setup_logging(incremental=False)
