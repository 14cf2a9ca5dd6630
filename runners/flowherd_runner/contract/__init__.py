"""What an agent and a runner agree on: everything that both sides import.

A runner outlives the agent that started it, so everything in this package is a promise to a program of another
release: names and shapes are added, never changed. docs/design.md, section 5, says what the files of a run directory
mean, and what it means when one is missing.

    spec       spec.json, the description of one run: value, writer, readers
    files      names and shapes of the other files of a run directory, and how a JSON file is written and read
    journal    the record format of a run's output
    reasons    why a run ended, how certain that is, exit codes
    variables  environment variables of a run, kinds of run, modules to preload
    messages   the conversation of the agent with a fork server
    identity   which process a pid belongs to
    oom        how often the kernel's out-of-memory killer has struck
    faults     points at which the test kit can kill this process
"""
