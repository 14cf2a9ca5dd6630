"""The kind "prefect": what runs of Prefect 0.x and 1.x flows need in their process.

Prefect is never a dependency of flowherd: it is found at run time in the interpreter that the flow needs, in any
version. Nothing here knows run directories, journals or runners.
"""
