"""Gives the Prefect of a forked process the run's configuration, and renews what was derived from it at import.

Prefect reads its configuration once, when it is imported, and other modules keep the object. So the configuration is
loaded again, from the run's environment and files, into the same object.
"""

import importlib
import os
import signal
import sys
from typing import Any, Dict

_USER_FILE = "~/.prefect/config.toml"
_BACKEND_FILE = "~/.prefect/backend.toml"
_PREFIX = "PREFECT"


def renew() -> None:
    """Bring Prefect into the state of a new import. Raises what Prefect raises for bad values."""
    _reload()
    _reset_context()
    _reinstall_handler()
    _reload_dask()


def _reload() -> None:
    module: Any = importlib.import_module("prefect.configuration")
    # The module sets both names from the environment when it is imported.
    module.USER_CONFIG = os.getenv("PREFECT__USER_CONFIG_PATH", _USER_FILE)
    module.BACKEND_CONFIG = os.getenv("PREFECT__BACKEND_CONFIG_PATH", _BACKEND_FILE)
    fresh = module.load_configuration(
        path=module.DEFAULT_CONFIG,
        user_config_path=module.USER_CONFIG,
        backend_config_path=module.BACKEND_CONFIG,
        env_var_prefix=_PREFIX,
    )
    replace(module.config, module.process_task_defaults(fresh))


def replace(old: Any, new: Dict[str, Any]) -> None:
    """Give `old` the content of `new`; every section that both have stays the same object."""
    for key in [key for key in old if key not in new]:
        del old[key]
    for key, value in new.items():
        if isinstance(value, dict) and isinstance(old.get(key), dict):
            replace(old[key], value)
        else:
            old[key] = value


def _reset_context() -> None:
    """Renew the context: it copies the configuration when a thread first uses it, and this thread has used it."""
    context: Any = importlib.import_module("prefect.utilities.context").context
    logger = context.get("logger")
    context.clear()
    context.__init__()
    if logger is not None:  # newer versions set it when they are imported
        context.logger = logger


def _reinstall_handler() -> None:
    """Install Prefect's handler of signal 29, which prints where a flow is, as an import does."""
    try:
        module = importlib.import_module("prefect._siginfo")
        signal.signal(29, module.sig_handler)
    except (ImportError, AttributeError, ValueError, OSError):
        return  # Prefect ignores this too


def _reload_dask() -> None:
    """Reload the configuration of Dask, which reads it at import too, with Dask's own function."""
    module: Any = sys.modules.get("dask.config")
    if module is None:
        return
    if hasattr(module, "_get_paths"):
        module.paths[:] = module._get_paths()  # they are below the run's own home
    module.refresh()
