"""The fault kit: kills anything at any moment and checks the promises from evidence outside flowherd.

    plan        what is to happen when, from a seed
    flow        the user's code of its runs; it writes down itself what it does and how it will end
    proxy       the network between agents and server, and its weather
    sides       the backend: flowherd's own server, or a work pool of a real Prefect 3; what differs between them
    program     a process that is killed and started again
    stage       server, agents and proxy as real processes, and who can be killed among them
    evidence    what the flows wrote, and what the server's database holds
    invariants  what must be true of a run, as a function of the evidence
    driver      performs a plan on a stage
    report      the figures, for people and as JSON
    single      for tests: one death at a time

`python -m tests.faults --minutes N [--seed S] [--backend prefect3] [--json]` is the long run.
"""
