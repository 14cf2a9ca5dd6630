"""The names of what a running agent has in its state directory; imports nothing, so that commands start quickly."""

#: Locked by the agent; contains its pid.
LOCK_FILE = "agent.lock"
#: The agent's identity, from which its claim tokens follow.
IDENTITY_FILE = "agent.json"
#: The directory of the run directories.
RUNS_DIRECTORY = "runs"
#: The ends of runs, kept to report them again.
ENDED_RUNS_FILE = "ended-runs"
#: Run directories that are made before there is a run.
BLANK_DIRECTORY = "blank"
