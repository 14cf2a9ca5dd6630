"""Deployed as it is here; the tests break the file afterwards."""

from prefect import flow


@flow
def main() -> None:
    pass
