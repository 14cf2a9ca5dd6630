"""Flows within flows."""

import asyncio

from prefect import flow, get_run_logger
from prefect.deployments import run_deployment


@flow(flow_run_name="inner {number}", log_prints=True)
def inner(number: int = 1) -> int:
    print("inner prints", number)
    get_run_logger().info("inner logs %d", number)
    return number


@flow
async def inner_later(number: int) -> int:
    get_run_logger().info("inner later %d", number)
    await asyncio.sleep(0.01)
    return number


@flow(flow_run_name="broken inner")
def broken() -> None:
    raise ValueError("in the subflow")


@flow(log_prints=True)
def outer() -> int:
    found = inner(1) + inner(2)
    print("outer prints", found)
    return found


@flow
async def gathering() -> list:
    return await asyncio.gather(*(inner_later(number) for number in range(3)))


@flow
def outer_of_broken(caught: bool) -> None:
    state = broken(return_state=True)
    get_run_logger().info("it is %s", state.type)
    if not caught:
        broken()


@flow(log_prints=True)
def calling(deployment: str) -> None:
    run = run_deployment(deployment, parameters={"number": 5}, poll_interval=0.5)
    print("called:", run.state.type)


@flow(timeout_seconds=0.5)
async def slow_inner() -> None:
    await asyncio.sleep(20)


@flow
async def outer_of_slow() -> None:
    await slow_inner()
