"""Engines: what differs between kinds of flow run, one value each, and how a flow run becomes a spec.

base         the shape of an engine, and what the agent gives to every run
plain        commands and Python functions
prefect1     flows of Prefect 0.x and 1.x
prefect3     runs of a Prefect 3 work pool
registry     all engines: the one place where another is added
plan         from a flow run to its spec
run_config   the values of a run config, checked
runtimes     which interpreter serves a run; checking and warming the interpreters of the settings
"""
