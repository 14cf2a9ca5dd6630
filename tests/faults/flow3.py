"""The same code as a flow of Prefect 3: found by a pull step, run by Prefect's own engine."""

import sys
from pathlib import Path

from prefect import flow, get_run_logger

sys.path.insert(0, str(Path(__file__).parent))

from flow import main


@flow(name="kit")
def kit(facts: str, ending: str, seconds: float, lines: int, child: str) -> None:
    main(facts, ending, seconds, lines, child, get_run_logger())
