"""The kinds "prefect3" and "prefect3-command": what runs of a Prefect 3 work pool need in their process.

Prefect is never a dependency of flowherd: it is found at run time in the interpreter that the flow needs. Nothing here
knows run directories, journals or runners.
"""
