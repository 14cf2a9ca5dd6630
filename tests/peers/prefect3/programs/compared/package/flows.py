"""A flow in a package, which is found by its module's name."""

from prefect import flow

from .neighbour import VALUE


@flow(log_prints=True)
def related() -> str:
    print("it is", VALUE, __name__)
    return VALUE
