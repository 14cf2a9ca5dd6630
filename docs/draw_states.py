"""Draws the two state tables of flowherd into docs/design.md, as Mermaid diagrams that are also readable as text.

`python docs/draw_states.py` writes the diagrams between their markers. With `--check` it writes nothing and exits with
code 1 if a diagram is not current.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Collection, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import TypeVar

from flowherd import states
from flowherd.host import run_phase

DOCUMENT = Path(__file__).with_name("design.md")
_WIDTH = 90

State = TypeVar("State", bound=Enum)
Event = TypeVar("Event", bound=Enum)

#: Groups of states that are drawn as one source if the same event leads from all of them to the same state.
FAMILIES: Mapping[str, Collection[states.RunState]] = {
    "claimable": states.CLAIMABLE,
    "unstarted": states.UNSTARTED,
    "startable": states.STARTABLE,
    "active": states.ACTIVE,
    "unfinished": states.UNFINISHED,
    "finished": states.FINISHED,
}


def drawing(table: Mapping[tuple[State, Event], State], families: Mapping[str, Collection[State]]) -> str:
    """Return the table as a Mermaid diagram."""
    labels: dict[tuple[str, str], list[str]] = {}
    for event, target, sources in _changes(table):
        for source in _grouped(sources, families):
            labels.setdefault((source, target.value), []).append(event.value)
    nodes = list(dict.fromkeys(node for arrow in labels for node in arrow))
    lines = [line for node in nodes for line in _declaration(node, families)]
    lines += [f"{_id(source)} --> {_id(target)}: {' / '.join(events)}" for (source, target), events in labels.items()]
    return "\n".join(["```mermaid", "stateDiagram-v2", *(f"    {line}" for line in lines), "```"])


def _changes(table: Mapping[tuple[State, Event], State]) -> Iterator[tuple[Event, State, list[State]]]:
    """Yield each event with a target and all states from which it leads there, in the order of the enums."""
    sources: dict[tuple[Event, State], list[State]] = {}
    for (source, event), target in table.items():
        sources.setdefault((event, target), []).append(source)
    for event, target in sorted(sources, key=lambda change: (_position(change[0]), _position(change[1]))):
        yield event, target, sorted(sources[event, target], key=_position)


def _grouped(sources: Collection[State], families: Mapping[str, Collection[State]]) -> list[str]:
    """Return names that together stand for exactly these states: the largest families that fit, then single states."""
    left, names = set(sources), []
    for name, members in sorted(families.items(), key=lambda family: -len(family[1])):
        if left.issuperset(members):
            left.difference_update(members)
            names.append(name)
    return [*names, *(source.value for source in sources if source in left)]


def _declaration(node: str, families: Mapping[str, Collection[State]]) -> list[str]:
    if node in families:
        members = ", ".join(member.value for member in sorted(families[node], key=_position))
        return [f"{node}: any {node} state", *(f"{node}: {line}" for line in textwrap.wrap(members, _WIDTH))]
    return [f'state "{node}" as {_id(node)}'] if _id(node) != node else []


def _id(name: str) -> str:
    return name.replace(" ", "_")


def _position(member: Enum) -> int:
    return list(type(member)).index(member)


def drawn(document: str) -> str:
    """Return the text of the document with current diagrams. Raises ValueError if a marker is missing."""
    document = _replaced(document, "run states", drawing(states.TRANSITIONS, FAMILIES))
    return _replaced(document, "run phases", drawing(run_phase.TRANSITIONS, {}))


def _replaced(document: str, name: str, diagram: str) -> str:
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    before, after = document.split(begin)
    _, rest = after.split(end)
    return f"{before}{begin}{diagram}\n{end}{rest}"


def main() -> None:
    """Write the diagrams, or check them."""
    document = DOCUMENT.read_text(encoding="utf-8")
    current = drawn(document)
    if sys.argv[1:] == ["--check"]:
        sys.exit(0 if current == document else f"{DOCUMENT} is not current; run: python {sys.argv[0]}")
    DOCUMENT.write_text(current, encoding="utf-8")


if __name__ == "__main__":
    main()
