"""What a runner tells its flow process, through a pipe: which run it is, what was read for it, and when to go on.

    directory, spec.json     each with its length in front; the spec as it is in the file
    JSON                     likewise: the run's variables with those that were read for it, or why it cannot be
                             started; only for a spec that names secrets or files of variables
    one byte                 go on to the user's code

The flow process may have been forked before its run was known. Both ends are of one release, so this is no contract.
End of file at any point means that the runner is gone, or that the run is not to be started.
"""

import json
import os
import struct
from typing import Dict, Mapping, NamedTuple, Optional, Tuple

from flowherd_runner.contract.spec import RunSpec

_LENGTH = struct.Struct("=Q")
_GO = b"\n"


class NotGoing(Exception):
    """The runner is gone, or has given the run up: nothing is to be started."""


class Order(NamedTuple):
    """The run of a flow process."""

    directory: str
    #: The content of spec.json.
    spec: bytes


def is_read_for(spec: RunSpec) -> bool:
    """Whether something beside spec.json is read for the run, which only the runner does."""
    return bool(spec.secrets or spec.env_files)


def send_order(fd: int, directory: str, spec: bytes) -> None:
    """Say which run it is. A flow process that has ended is found out about elsewhere."""
    _send(fd, os.fsencode(directory))
    _send(fd, spec)


def receive_order(fd: int) -> Order:
    """Wait for the run. Raises NotGoing."""
    return Order(os.fsdecode(_receive(fd)), _receive(fd))


def send_variables(fd: int, variables: Mapping[str, str], refusal: Optional[str]) -> None:
    """Pass on all variables of the run, or why it cannot be started."""
    _send(fd, json.dumps([dict(variables), refusal]).encode())


def receive_variables(fd: int) -> Tuple[Dict[str, str], Optional[str]]:
    """Wait for what `send_variables` sends. Raises NotGoing."""
    variables, refusal = json.loads(_receive(fd).decode())
    return variables, refusal


def send_go(fd: int) -> None:
    """Let the flow process go on to the user's code, and close the pipe."""
    # A flow process that could not be prepared has ended, and with it the other end of the pipe.
    try:
        os.write(fd, _GO)
    except BrokenPipeError:
        pass
    os.close(fd)


def wait_for_go(fd: int) -> None:
    """Wait for the word to go on, and close the pipe. Raises NotGoing."""
    if not os.read(fd, 1):
        raise NotGoing
    os.close(fd)


def _send(fd: int, data: bytes) -> None:
    rest = memoryview(_LENGTH.pack(len(data)) + data)
    try:
        while rest:
            rest = rest[os.write(fd, rest) :]
    except BrokenPipeError:
        pass


def _receive(fd: int) -> bytes:
    (length,) = _LENGTH.unpack(_read(fd, _LENGTH.size))
    return _read(fd, length)


def _read(fd: int, length: int) -> bytes:
    data = os.read(fd, length)
    while len(data) < length:
        more = os.read(fd, length - len(data))
        if not more:
            raise NotGoing
        data += more
    return data
