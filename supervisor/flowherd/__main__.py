"""The command line as `python -m flowherd`. Service files and the demo start it this way, independently of PATH."""

from __future__ import annotations

from flowherd.cli.main import main

if __name__ == "__main__":
    main()
