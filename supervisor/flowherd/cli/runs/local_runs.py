"""The run directories on this host: found by id, beginning of an id or name, with the lines of their journals.

For logs that the backend does not have. Only reads, because an agent may be working in the same directories.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from flowherd.host.delivery.journal_reader import BATCH_BYTES, read_batch, without_replaced
from flowherd.values import LogLine
from flowherd_runner.contract import files


@dataclass(frozen=True, kw_only=True)
class LocalRun:
    """A run directory."""

    id: str
    directory: Path

    @property
    def ended(self) -> bool:
        """Whether the runner has written its exit record, or the directory has been removed since."""
        return (self.directory / files.EXIT_FILE).exists() or not self.directory.exists()

    @property
    def name(self) -> str:
        """The run's name; its id, if it cannot be read."""
        return _name(self) or self.id


class JournalTail:
    """Reads a journal; remembers how far it has read."""

    def __init__(self, run: LocalRun) -> None:
        self._run = run
        self._offset = 0

    def next_lines(self) -> list[LogLine]:
        """Return lines that were not returned before; an empty list means that there are no more at present."""
        journal = self._run.directory / files.JOURNAL_FILE
        lines, self._offset = read_batch(journal, self._run.id, self._offset, BATCH_BYTES)
        return without_replaced(lines)


def find_local_runs(text: str, agents_dir: Path, state_dir: Path | None) -> list[LocalRun]:
    """Return the runs that `text` may mean: an id, a name, or the beginning of ids.

    Searches `state_dir`, or if that is None the state directories of all agents in `agents_dir`.
    """
    runs = list(_all_runs(agents_dir, state_dir))
    for matches in (
        [run for run in runs if run.id == text],
        [run for run in runs if _name(run) == text],
        [run for run in runs if run.id.startswith(text.lower())],
    ):
        if matches:
            return matches
    return []


def _all_runs(agents_dir: Path, state_dir: Path | None) -> Iterator[LocalRun]:
    state_dirs = [state_dir] if state_dir is not None else sorted(agents_dir.glob("*"))
    for directory in state_dirs:
        for entry in sorted((directory / "runs").glob("*")):
            if entry.is_dir():
                yield LocalRun(id=entry.name, directory=entry)


def _name(run: LocalRun) -> str | None:
    try:
        spec = files.read_json(str(run.directory), files.SPEC_FILE)
    except (OSError, ValueError):  # another user's, or damaged: it can still be found by its id
        return None
    return spec.get("flow_run_name") if spec else None
