"""Deployed as it is here; the tests break it afterwards."""

from prefect import flow


@flow
def main() -> None:
    pass
