"""What a run of a real Prefect 3 flow needs: its Prefect made the run's own, its records, its engine, its end.

Prefect is never a dependency of ours: it is found at run time in the interpreter that the flow needs. Nothing here
knows journals or runners.
"""
