"""Write what the Prefect of this process has made of its configuration, as texts by name, to compare it with another's.

python prefect_state.py FILE     for a fresh interpreter
"""

import datetime
import importlib
import json
import logging
import pathlib
import re
import sys
import threading

PLAIN = (str, int, float, bool, type(None), bytes, datetime.timedelta)


def state():
    """Collect globals and class attributes of Prefect's modules, defaults of functions, loggers and contexts."""
    found = {}
    for name, module in sorted(sys.modules.items()):
        if name.split(".")[0] == "prefect":
            for key, value in list(vars(module).items()):
                if not key.startswith("__"):
                    found[f"{name}.{key}"] = text(value)
                    found.update(attributes(name, value))
    for name, logger in logging.Logger.manager.loggerDict.items():
        if isinstance(logger, logging.Logger) and logger.level:
            found[f"logger {name}"] = str(logger.level)
    found["context"], found["context of a thread"] = contexts()
    return found


def attributes(module, value):
    if not isinstance(value, type) or value.__module__ != module:
        return {}
    own = {key: one for key, one in vars(value).items() if not key.startswith("__") or key == "__init__"}
    return {f"{module}.{value.__name__}.{key}": text(getattr(one, "__func__", one)) for key, one in own.items()}


def text(value, depth=0):
    if isinstance(value, PLAIN):
        return repr(value)
    if depth > 8:
        return "..."
    if isinstance(value, dict):
        items = sorted((str(key), text(one, depth + 1)) for key, one in value.items() if not str(key).startswith("__"))
        return f"{type(value).__name__} {items}"
    if isinstance(value, (list, tuple, set, frozenset)):
        return f"{type(value).__name__} {sorted(text(one, depth + 1) for one in value)}"
    if callable(value) and hasattr(value, "__defaults__"):
        return f"{value.__module__}.{value.__qualname__} {text(value.__defaults__, depth + 1)}"
    if isinstance(value, logging.Logger):
        return value.name
    return re.sub(r"0x[0-9a-f]+", "ADDRESS", repr(value))


def contexts():
    prefect = sys.modules["prefect"]
    found = [text(dict(prefect.context))]
    thread = threading.Thread(target=lambda: found.append(text(dict(prefect.context))))
    thread.start()
    thread.join()
    return found


def write(path):
    pathlib.Path(path).write_text(json.dumps(state()))


if __name__ == "__main__":
    for name in ("prefect", "prefect.engine.cloud", "prefect.cli.execute", "distributed"):
        importlib.import_module(name)
    write(sys.argv[1])
