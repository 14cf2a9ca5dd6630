"""Why a run ended, how certain that is, and the exit codes of the programs on the child side."""

REASON_EXITED = "exited"  # see exit_code
REASON_EXCEPTION = "exception"  # a Python callable raised; see exception
REASON_SIGNAL = "signal"  # by a signal that flowherd did not send; see signal
REASON_NOT_STARTED = "not_started"  # the user's code was never reached; see evidence
REASON_CANCELLED = "cancelled"
REASON_TIMEOUT = "timeout"  # run time limit, enforced by the runner
REASON_MEMORY = "memory_limit"  # enforced by the agent
REASON_PROCESSES = "process_limit"  # enforced by the agent
REASON_AGENT_STOP = "agent_stop"  # the agent was stopped together with its runs
REASON_LOST_CONTACT = "lost_contact"  # the backend did not answer for longer than the agent's limit
REASON_OOM = "oom_killer"  # SIGKILL from the kernel's out-of-memory killer; proven if the run has its own counter
REASON_TERMINATED = "terminated"  # not the agent but another process signalled the runner to end
REASON_LOST = "lost"  # the runner itself ended without a record; concluded by the agent
REASON_REBOOT = "reboot"  # like lost, and the boot id differs

GRADE_PROVEN = "proven"
GRADE_PROBABLE = "probable"

# Exit codes.

#: The runner wrote exit.json, however the run ended.
RUNNER_OK = 0
#: The runner could not do its work (unreadable spec, no space for the exit record); its stderr says why.
RUNNER_BROKEN = 70
#: The fork server's interpreter is too old, or its arguments are wrong.
FORK_SERVER_BROKEN = 71
#: The flow process could not be prepared (working directory, user, limits, no such program).
FLOW_NOT_STARTED = 72
#: A Python callable raised; the same code that the interpreter itself uses.
FLOW_RAISED = 1
