"""The fault kit: kills any process at any moment and checks the promises by evidence from outside flowherd.

    plan           what happens when, from a seed
    flow           the user's code of the runs; it writes down itself what it does and how it will end
    proxy          the network between agents and server, and its faults
    backends       the backend: flowherd's own server or a work pool of a real Prefect 3, and what differs between them
    program        a process that is killed and started again
    cluster        server, agents and proxy as real processes, and which of them can be killed
    evidence       what the flows wrote, and what the server's database has
    invariants     what must be true of a run, as a function of the evidence
    driver         carries out a plan on a cluster
    report         the figures, for people and as JSON
    single_fault   for tests: one death at a time

`python -m tests.faults --minutes N [--seed S] [--backend prefect3] [--json]` is the long session.
"""
