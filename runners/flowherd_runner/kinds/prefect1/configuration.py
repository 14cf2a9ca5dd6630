"""Makes the Prefect of a forked process the run's own: configuration, context, and what was copied from them at import.

Prefect reads its configuration once, when it is imported, and other modules hold on to the object. So it is loaded
again from the run's environment and files into the same object.
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
    """Let Prefect know what it would know had it been imported just now. Raises what Prefect raises for bad values."""
    _reload()
    _reset_context()
    _reinstall_handler()
    _reload_dask()


def _reload() -> None:
    module: Any = importlib.import_module("prefect.configuration")
    # Both names are read from the environment by the module itself when it is imported.
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
    """Give `old` the content of `new`, with every section that both have staying the object that it was."""
    for key in [key for key in old if key not in new]:
        del old[key]
    for key, value in new.items():
        if isinstance(value, dict) and isinstance(old.get(key), dict):
            replace(old[key], value)
        else:
            old[key] = value


def _reset_context() -> None:
    """The context copies the configuration when a thread first looks at it, and this thread has looked."""
    context: Any = importlib.import_module("prefect.utilities.context").context
    logger = context.get("logger")
    context.clear()
    context.__init__()
    if logger is not None:  # newer versions put it there when they are imported
        context.logger = logger


def _reinstall_handler() -> None:
    """Prefect's own handler of signal 29, installed at import, which tells where a flow is."""
    try:
        module = importlib.import_module("prefect._siginfo")
        signal.signal(29, module.sig_handler)
    except (ImportError, AttributeError, ValueError, OSError):
        return  # as Prefect itself has it


def _reload_dask() -> None:
    """Dask reads its configuration when it is imported too, and its own function reads it again in place."""
    module: Any = sys.modules.get("dask.config")
    if module is None:
        return
    if hasattr(module, "_get_paths"):
        module.paths[:] = module._get_paths()  # they lie below the run's own home
    module.refresh()
