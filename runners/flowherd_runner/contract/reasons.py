"""Why a run ended, how sure that is, and the exit codes of the programs on the child side."""

REASON_EXITED = "exited"  # exit_code says how
REASON_EXCEPTION = "exception"  # a Python callable raised; exception says what
REASON_SIGNAL = "signal"  # signal says which; not sent by flowherd
REASON_NOT_STARTED = "not_started"  # the user's code was never reached; evidence says why
REASON_CANCELLED = "cancelled"
REASON_TIMEOUT = "timeout"  # run time limit, enforced by the runner
REASON_MEMORY = "memory_limit"  # enforced by the agent
REASON_PROCESSES = "process_limit"  # enforced by the agent
REASON_AGENT_STOP = "agent_stop"  # the agent was told to end its runs with it
REASON_LOST_CONTACT = "lost_contact"  # the backend was away longer than the agent's limit
REASON_OOM = "oom_killer"  # SIGKILL of the kernel's out-of-memory killer; proven where the run has its own counter
REASON_TERMINATED = "terminated"  # somebody else sent the runner a signal that asks it to end
REASON_LOST = "lost"  # the runner itself is gone without a record; concluded by the agent
REASON_REBOOT = "reboot"  # as lost, and the boot id differs

GRADE_PROVEN = "proven"
GRADE_PROBABLE = "probable"

# Exit codes.

#: The runner wrote exit.json, whatever the run's own end was.
RUNNER_OK = 0
#: The runner could not do its work (unreadable spec, no disk for the exit record); stderr says why.
RUNNER_BROKEN = 70
#: A fork server whose interpreter is too old, or whose arguments are wrong.
FORK_SERVER_BROKEN = 71
#: The flow process could not be prepared (working directory, user, limits, no such program).
FLOW_NOT_STARTED = 72
#: A Python callable raised; the same code that the interpreter itself uses.
FLOW_RAISED = 1
