"""The same code as a flow of Prefect 3, run by Prefect's own engine; a pull step leads to it."""

import sys
from pathlib import Path

from prefect import flow, get_run_logger

sys.path.insert(0, str(Path(__file__).parent))

from flow import main


@flow(name="kit")
def kit(facts: str, ending: str, seconds: float, lines: int, child: str) -> None:
    main(facts, ending, seconds, lines, child, get_run_logger())
