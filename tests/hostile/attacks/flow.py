"""The attacks as a flow: a program, or the function `main` in the fork itself."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import on_files  # noqa: F401
import on_processes  # noqa: F401
import on_sockets  # noqa: F401
import on_the_host  # noqa: F401
from registry import act


def main(place: str) -> None:
    """Attack what is named by files in the directory `place`."""
    act(place)


if __name__ == "__main__":
    main(sys.argv[1])
