"""A runtime is an environment: what lies beside the run's Python is what the run and its programs find first.

Does to the variables what `activate` of a virtual environment does (venv of the Python documentation), and for conda
what its activation does to PATH, CONDA_PREFIX and CONDA_DEFAULT_ENV. Scripts of activate.d are not run.
"""

import os
from typing import Dict

_VENV = "VIRTUAL_ENV"
_CONDA = "CONDA_PREFIX"
#: Variables that name an environment: those of the agent's own are not those of the run.
_NAMES = (_VENV, "VIRTUAL_ENV_PROMPT", _CONDA, "CONDA_DEFAULT_ENV", "CONDA_PROMPT_MODIFIER")


def enter_environment(variables: Dict[str, str], interpreter: str) -> None:
    """Change `variables` to those of the environment of `interpreter`, an absolute path.

    Directories that were on PATH stay on it, after the environment's own. An interpreter that belongs to no environment
    gets its directory on PATH only if its name leads to another interpreter otherwise.
    """
    directory = os.path.dirname(interpreter)
    own = _names_of(os.path.dirname(directory))
    path = variables.get("PATH") or os.defpath
    found = path.split(os.pathsep)[0] == directory if own else _leads_to(path, interpreter)
    if not found:
        variables["PATH"] = directory + os.pathsep + path
    for name in _NAMES:
        variables.pop(name, None)
    variables.update(own)


def _names_of(prefix: str) -> Dict[str, str]:
    """Return the variables by which the environment in `prefix` is known; none if there is no environment."""
    # virtualenv before version 20 made no pyvenv.cfg.
    if any(os.path.exists(os.path.join(prefix, *mark)) for mark in (["pyvenv.cfg"], ["bin", "activate_this.py"])):
        return {_VENV: prefix}
    if not os.path.isdir(os.path.join(prefix, "conda-meta")):
        return {}
    if os.path.isdir(os.path.join(prefix, "condabin")):
        return {_CONDA: prefix, "CONDA_DEFAULT_ENV": "base"}
    above, name = os.path.split(prefix)
    return {_CONDA: prefix, "CONDA_DEFAULT_ENV": name if os.path.basename(above) == "envs" else prefix}


def _leads_to(path: str, interpreter: str) -> bool:
    """Return whether the interpreter is the first program of its name on PATH.

    Not by shutil.which: that module, and those of archives that it loads, would be in the memory of every run.
    """
    name = os.path.basename(interpreter)
    programs = (os.path.join(directory, name) for directory in path.split(os.pathsep))
    first = next((one for one in programs if os.path.isfile(one) and os.access(one, os.X_OK)), None)
    return first == interpreter
