"""The names that Prefect 0.x and 1.x have for the same things."""

from __future__ import annotations

import os
from datetime import timedelta

import prefect

PREFECT_1 = prefect.__version__.startswith("1.")

if PREFECT_1:
    from prefect.executors import DaskExecutor, LocalDaskExecutor
    from prefect.storage import Local
else:
    from prefect.engine.executors import DaskExecutor, LocalDaskExecutor
    from prefect.environments.storage import Local

__all__ = [
    "PREFECT_1",
    "DaskExecutor",
    "Local",
    "LocalDaskExecutor",
    "logger",
    "on",
    "scratch",
    "seconds",
    "with_labels",
]


def logger():
    """Return the logger of the task that runs."""
    return prefect.context.get("logger")


def scratch(name):
    """Return the path of a file of this run's own."""
    directory = os.path.join(os.environ["PEERS_SCRATCH"], prefect.context.flow_run_id)
    os.makedirs(directory, exist_ok=True)
    return os.path.join(directory, name)


def seconds(number):
    return timedelta(seconds=number)


def on(flow, executor):
    """Have the flow use this executor."""
    if PREFECT_1:
        flow.executor = executor
    else:
        from prefect.environments import LocalEnvironment

        flow.environment = LocalEnvironment(executor=executor)
    return flow


def with_labels(flow, labels):
    """Have the flow be for agents with these labels."""
    if PREFECT_1:
        from prefect.run_configs import UniversalRun

        flow.run_config = UniversalRun(labels=labels)
    else:
        from prefect.environments import LocalEnvironment

        flow.environment = LocalEnvironment(labels=labels)
    return flow
