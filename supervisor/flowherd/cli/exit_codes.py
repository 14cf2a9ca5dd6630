"""What the exit codes of `flowherd` mean. Scripts may rely on them."""

from __future__ import annotations

#: The command did what it was asked; for `run --wait` and `wait`: Success.
OK = 0
#: The command failed, or the answer is no; for `run --wait` and `wait`: Failed.
FAILED = 1
#: The command line or a setting is wrong; trying again without a change will not help.
USAGE = 2
#: The backend does not answer.
UNREACHABLE = 3
#: There is no such flow, run or program.
NOT_FOUND = 4
#: `run --wait` and `wait`: the run was cancelled.
CANCELLED = 5
#: `run --wait --timeout` and `wait --timeout`: the run has not ended yet.
STILL_GOING = 6
#: Ctrl-C (128 + SIGINT), as shells have it.
INTERRUPTED = 130
#: The reader of standard output has closed it (128 + SIGPIPE), as shells have it.
BROKEN_PIPE = 141
