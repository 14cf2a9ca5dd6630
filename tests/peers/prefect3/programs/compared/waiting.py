"""Flows that wait for a person."""

from prefect import flow, get_run_logger
from prefect.flow_runs import pause_flow_run, suspend_flow_run, wait_for_flow_run
from prefect.input import RunInput, receive_input, send_input
from prefect.runtime import flow_run as running

__all__ = ["wait_for_flow_run"]


class Answer(RunInput):
    word: str
    number: int = 3


@flow
def pausing() -> None:
    pause_flow_run(timeout=60, poll_interval=1)
    get_run_logger().info("behind the pause")


@flow
def pausing_for_an_answer() -> str:
    answer = pause_flow_run(wait_for_input=Answer, timeout=60, poll_interval=1)
    get_run_logger().info("the answer is %s %d", answer.word, answer.number)
    return answer.word


@flow
def pausing_in_vain() -> None:
    pause_flow_run(timeout=1, poll_interval=1)


@flow
async def pausing_later() -> None:
    await pause_flow_run(timeout=60, poll_interval=1)
    get_run_logger().info("behind the pause")


@flow(persist_result=True)
def suspending() -> None:
    get_run_logger().info("before, count %d", running.run_count)
    suspend_flow_run(timeout=60)
    get_run_logger().info("behind, count %d", running.run_count)


@flow(persist_result=True)
def suspending_for_an_answer() -> None:
    answer = suspend_flow_run(wait_for_input=str, timeout=60)
    get_run_logger().info("the answer is %s", answer)


@flow
def messaging(to: str | None = None) -> None:
    send_input("to myself", flow_run_id=running.id)
    for text in receive_input(str, timeout=10, poll_interval=0.2):
        get_run_logger().info("received %s", text)
        break
