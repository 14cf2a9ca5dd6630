"""The agent's own credentials, on their way from a fork server's environment to the mask of each run's output.

Taken out of the environment before anything is imported for the runs, so that no run inherits them.
"""

import json
import os
from typing import Dict, List

from flowherd_runner.contract.variables import AGENT_SECRETS_VARIABLE

_values: List[str] = []


def take_agent_secrets() -> None:
    """Move the credentials from the environment into this process's memory."""
    _values[:] = json.loads(os.environ.pop(AGENT_SECRETS_VARIABLE, "[]"))


def agent_secrets() -> List[str]:
    """Return the credentials."""
    return list(_values)


def environment_with_secrets() -> Dict[str, str]:
    """Return the environment for a runner that is a program of its own and has to take them again."""
    return dict(os.environ, **({AGENT_SECRETS_VARIABLE: json.dumps(_values)} if _values else {}))
