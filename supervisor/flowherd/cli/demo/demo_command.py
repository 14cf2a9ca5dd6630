"""`flowherd demo`: shows a server, an agent and example flows at work in a temporary directory."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from flowherd.cli import exit_codes
from flowherd.cli.printing import print_line, print_note


def add_to(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("demo", epilog="Example:  flowherd demo --keep")(demo)


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Do not remove the temporary directory.")] = False,
) -> None:
    """Show flowherd at work: start a server and an agent in a temporary place, run six example flows, show their logs.

    Exits 0 if each flow ended as it should. Does not touch your settings or runs, and leaves nothing behind.
    """
    from flowherd.cli.demo.demo_stage import Stage
    from flowherd.signals import Waker, catching_stop_signals

    place = Path(tempfile.mkdtemp(prefix="flowherd-demo-"))
    waker = Waker()
    with ExitStack() as stack:
        stack.callback(_remove, place, keep)
        signals = stack.enter_context(catching_stop_signals(waker))
        stage = Stage(place, waker, signals)
        stack.callback(stage.stop)
        good = stage.play()
        stage.stop()
        left = stage.left_behind()
        if left:
            print_note(f"error: left behind: {'; '.join(left)}")
    if signals.count:
        raise typer.Exit(exit_codes.INTERRUPTED)
    raise typer.Exit(exit_codes.OK if good and not left else exit_codes.FAILED)


def _remove(place: Path, keep: bool) -> None:
    if keep:
        print_line(f"kept: {place}   (FLOWHERD_HOME={place / 'home'} flowherd server, then ps --all and logs)")
    else:
        shutil.rmtree(place, ignore_errors=True)
