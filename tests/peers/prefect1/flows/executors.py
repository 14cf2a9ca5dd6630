"""Flows that run on each executor: threads, processes, clusters of Dask."""

from __future__ import annotations

from flows.versions import DaskExecutor, LocalDaskExecutor, logger, on
from prefect import Flow, task


def _parallel(name):
    @task
    def numbers():
        return list(range(6))

    @task
    def square(x):
        logger().info("square of %s", x)
        return x * x

    @task
    def total(values):
        logger().info("total %s", sum(values))

    with Flow(name) as flow:
        total(square.map(numbers()))
    return flow


def threads():
    return on(_parallel("threads"), LocalDaskExecutor(scheduler="threads", num_workers=3))


def processes():
    return on(_parallel("processes"), LocalDaskExecutor(scheduler="processes", num_workers=2))


def dask_cluster():
    options = {"n_workers": 1, "threads_per_worker": 2, "processes": False, "dashboard_address": None}
    return on(_parallel("dask-cluster"), DaskExecutor(cluster_kwargs=options))


def dask_processes():
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    return on(_parallel("dask-processes"), DaskExecutor(cluster_kwargs=options))


FLOWS = [threads, processes, dask_cluster, dask_processes]
