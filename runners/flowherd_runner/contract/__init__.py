"""What an agent and a runner agree on, and all that both sides import.

A runner outlives the agent that started it, so everything in this package is a promise to a program of another
release: names and shapes are added to, never changed. What the files of a run directory mean, and what their
absence means, is told in docs/design.md, section 5.

    spec       spec.json: the description of one run
    files      names and JSON shapes of a run directory
    reasons    why a run ended, how sure that is, exit codes
    journal    the record format of a run's output
    messages   what the agent and the fork server say to each other
    identity   who a process is
    variables  what the user's code finds in its environment
    oom        how often the kernel's out-of-memory killer has struck
"""
