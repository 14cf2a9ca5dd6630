"""Flows and their tasks."""

import asyncio
import time
from pathlib import Path

from prefect import flow, get_run_logger, tags, task, unmapped
from prefect.cache_policies import INPUTS, NO_CACHE
from prefect.concurrency.sync import concurrency, rate_limit
from prefect.futures import as_completed, wait
from prefect.runtime import flow_run as running
from prefect.runtime import task_run as running_task
from prefect.task_runners import ProcessPoolTaskRunner, ThreadPoolTaskRunner
from prefect.transactions import transaction


@task(task_run_name="adding {one} and {two}", tags={"sums"})
def add(one: int, two: int = 1) -> int:
    get_run_logger().info("adds %d and %d", one, two)
    return one + two


@task
async def add_later(one: int) -> int:
    await asyncio.sleep(0.01)
    get_run_logger().info("adds %d later", one)
    return one + 1


@flow(log_prints=True)
def submitting() -> int:
    first = add.submit(1, 2)
    second = add.submit(first, 3, wait_for=[first])
    print("together", second.result())
    return second.result()


@flow(log_prints=True)
def mapping() -> list:
    futures = add.map([1, 2, 3], two=unmapped(10))
    done = sorted(future.result() for future in as_completed(futures))
    wait(futures)
    print(done)
    return done


@flow
async def gathering() -> list:
    return await asyncio.gather(*(add_later(number) for number in range(3)))


@task
def speaking(text: str) -> None:
    """Log without printing: Prefect restores `print` for all threads when one task ends."""
    get_run_logger().info("the task says %s", text)
    get_run_logger().warning("the task warns %s", text)


@flow(task_runner=ThreadPoolTaskRunner(max_workers=2))
def in_threads() -> None:
    wait([speaking.submit(text) for text in ("a", "b", "c")])


@flow(task_runner=ProcessPoolTaskRunner(max_workers=2))
def in_processes() -> list:
    return [future.result() for future in add.map([1, 2])]


@task(cache_policy=INPUTS, persist_result=True)
def computed(number: int) -> int:
    get_run_logger().info("computes %d", number)
    return number * 2


@task(cache_key_fn=lambda context, parameters: f"key of {parameters['number']}", persist_result=True)
def computed_by_key(number: int) -> int:
    get_run_logger().info("computes by key %d", number)
    return number * 3


@flow(persist_result=True)
def caching() -> list:
    return [computed(4), computed(4), computed(5), computed_by_key(1), computed_by_key(1)]


@task(persist_result=True, result_storage_key="result-of-{task_run.task_name}.json", result_serializer="json")
def stored() -> dict:
    return {"kept": True}


@flow(persist_result=True, result_serializer="json")
def storing() -> dict:
    return stored()


@task(cache_policy=NO_CACHE)
def written(path: str, text: str) -> None:
    Path(path).write_text(text)


@written.on_rollback
def unwritten(transaction) -> None:
    print("rolled back")
    Path(transaction.get("path")).unlink()


@written.on_commit
def kept(transaction) -> None:
    print("committed")


@flow(log_prints=True)
def transacting(broken: bool) -> bool:
    path = Path("transacted").absolute().with_name(f"transacted-{running.id}")
    try:
        with transaction() as current:
            current.set("path", str(path))
            written(str(path), "text")
            if broken:
                raise ValueError("in the transaction")
    except ValueError:
        print("there:", path.exists())
    return path.exists()


@task(on_completion=[lambda task, run, state: print("hook of the task", state.name)], log_prints=True)
def hooked() -> None:
    pass


@hooked.on_running
def _at_start(task, run, state) -> None:
    print("task hook at", state.name)


@task
def nested(depth: int) -> int:
    return depth if depth == 0 else nested(depth - 1)


@flow(log_prints=True)
def variously() -> None:
    hooked()
    nested(2)
    with tags("outer", "inner"):
        add(5)
    print("name", running.name, "params", running.parameters, "flow", running.flow_name)
    print("tags", sorted(running.tags), "parent", running.parent_flow_run_id, "job", running.job_variables)
    print("count", running.run_count, "version", running.flow_version, "root", running.root_flow_run_id == running.id)


@task
def named() -> str:
    return running_task.name


@flow(log_prints=True)
def limited() -> None:
    with concurrency("compared", occupy=1, strict=True):
        print("in the limit")
        time.sleep(0.1)
    rate_limit("compared-rate")
    print(named())


@task
def generating():
    yield from (1, 2, 3)


@flow
def consuming() -> list:
    return list(generating())


@flow
def depending() -> None:
    """The second task is not run, because the first has failed: NotReady."""

    @task
    def breaks() -> None:
        raise ValueError("first")

    add.submit(breaks.submit()).wait()
