"""The agent's own credentials, which a runner masks in the output of its run, and which no run may have.

They are in a file without a name that the agent has made, and whose descriptor all fork servers and runners inherit. A
runner reads it once its flow process was forked, which closes the descriptor at once. So they are in the environment of
no process of the child side, nor in memory that a run is a copy of.
"""

import json
import os
from typing import List, Optional

from flowherd_runner.contract.variables import AGENT_SECRETS_VARIABLE

#: The descriptor; None if the agent has no credentials.
_fd: Optional[int] = None
#: The credentials as an agent of 0.1.0 hands them over whose files were replaced while it runs: by the environment.
_of_old_agent: List[str] = []


def keep_agent_secrets(fd: Optional[int]) -> None:
    """Keep the descriptor by which the credentials can be read."""
    global _fd
    _fd = fd
    _of_old_agent[:] = json.loads(os.environ.pop(AGENT_SECRETS_VARIABLE, "[]"))
    if fd is not None:
        os.set_inheritable(fd, False)


def agent_secrets() -> List[str]:
    """Read and return the credentials. Only for a runner whose flow process was forked."""
    if _fd is None:
        return list(_of_old_agent)
    return [str(one) for one in json.loads(os.pread(_fd, os.fstat(_fd).st_size, 0) or b"[]")]


def inherited() -> List[int]:
    """Return the descriptor, in a list that is empty without one."""
    return [] if _fd is None else [_fd]


def passed_on() -> List[str]:
    """Have the next program of this process inherit the descriptor, and return that program's option for it."""
    if _fd is None:
        return []
    os.set_inheritable(_fd, True)
    return ["--secrets-fd", str(_fd)]
