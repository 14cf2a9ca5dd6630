"""The fault kit: kills anything at any moment and checks the promises from evidence outside flowherd.

    plan        what is to happen when, from a seed
    flow        the user's code of its runs; it writes down itself what it does and how it will end
    proxy       the network between agents and server, and its weather
    stage       server, agents and proxy as real processes, and who can be killed among them
    evidence    what the flows wrote, and what the server's database holds
    invariants  what must be true of a run, as a function of the evidence
    driver      performs a plan on a stage
    report      the figures, for people and as JSON

`python -m tests.faults --minutes N [--seed S] [--json]` is the long run.
"""
