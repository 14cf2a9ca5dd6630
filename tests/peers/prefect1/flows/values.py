"""Flows that pass values on: parameters, results, mapping, caches."""

from __future__ import annotations

import os

import prefect
from flows.versions import logger, seconds
from prefect import Flow, Parameter, task, unmapped
from prefect.engine.cache_validators import all_parameters
from prefect.engine.results import LocalResult, PrefectResult


@task
def log_value(found):
    logger().info("got %r", found)
    return found


def parameters():
    with Flow("parameters") as flow:
        must = Parameter("must")
        may = Parameter("may", default=5)
        deep = Parameter("deep", default={"list": [1, None, "ü"]})
        log_value(must), log_value(may), log_value(deep)
    return flow


@task
def one():
    return 1


@task(name="Add up", tags=["sum"])
def add(x, y=1):
    logger().info("adding %s and %s", x, y)
    return x + y


SCRATCH = os.environ["PEERS_SCRATCH"]


def results():
    """Values go from task to task; the result of one is stored where its task says."""

    @task(result=LocalResult(dir=SCRATCH, location="{flow_run_id}/{task_name}.stored"))
    def stored(x):
        return {"value": x}

    @task
    def look(found):
        kept = LocalResult(dir=SCRATCH).read(os.path.join(prefect.context.flow_run_id, "stored.stored")).value
        logger().info("given %s, kept %s", found, kept)

    with Flow("results") as flow:
        first = one()
        look(stored(add(add(first, first))))
    return flow


def targets():
    """A task whose target exists is not run."""

    @task(target="{flow_run_id}/target", result=LocalResult(dir=SCRATCH))
    def made_once():
        logger().info("made")
        return 7

    with Flow("targets") as flow:
        first = made_once()
        second = made_once(upstream_tasks=[first])
        log_value(second)
    return flow


def small_result():
    @task(result=PrefectResult())
    def in_the_state():
        return [1, 2, 3]

    with Flow("small-result") as flow:
        log_value(in_the_state())
    return flow


@task
def numbers(count):
    return list(range(count))


@task
def pair(x, other):
    return x, other


@task
def odd_fails(x):
    logger().info("item %s", x)
    if x % 2:
        raise ValueError(f"{x} is odd")
    return x


@task
def total(values):
    logger().info("total %s", sum(values))
    return sum(values)


def mapping():
    """A map over a map, with an argument that is not mapped, and a sum over all."""
    with Flow("mapping") as flow:
        items = numbers(6)
        pairs = pair.map(items, other=unmapped(Parameter("other", default="o")))
        total(add.map(add.map(items)))
        log_value(pairs)
    return flow


def mapping_over_nothing():
    with Flow("mapping-over-nothing") as flow:
        total(add.map(numbers(0)))
    return flow


def mapping_with_failures():
    @task(trigger=prefect.triggers.all_finished)
    def count(values):
        logger().info("%d of %d failed", sum(isinstance(value, Exception) for value in values), len(values))

    with Flow("mapping-with-failures") as flow:
        values = odd_fails.map(numbers(5))
        add.map(values)
        count(values)
    return flow


def mapping_over_many():
    with Flow("mapping-over-many") as flow:
        total(add.map(numbers(30)))
    return flow


@task(cache_for=seconds(3600), cache_validator=all_parameters)
def expensive(who):
    logger().info("computed for %s", who)
    return 42


def cached():
    """The second run with the same parameters uses the value of the first."""
    with Flow("cached") as flow:
        log_value(expensive(Parameter("who")))
    return flow


FLOWS = [
    parameters,
    results,
    targets,
    small_result,
    mapping,
    mapping_over_nothing,
    mapping_with_failures,
    mapping_over_many,
    cached,
]
