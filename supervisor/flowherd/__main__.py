"""`python -m flowherd` is the command line: what service files and the demo start, whatever PATH holds."""

from __future__ import annotations

from flowherd.cli.main import main

if __name__ == "__main__":
    main()
