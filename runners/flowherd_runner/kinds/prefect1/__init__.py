"""What a run of a real Prefect 0.x or 1.x flow needs: its Prefect made the run's own, its records, its command.

Prefect is never a dependency of ours: it is found at run time in the interpreter that the flow needs, in whatever
version it is there. Nothing here knows runs, journals or runners.
"""
