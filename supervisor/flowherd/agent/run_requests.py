"""What other programs of this host ask of single runs over the control socket, such as supervisord's plugins.

A run that this host knows is explained from here, so that works without the server too. Cancelling, repeating and
starting runs, and all of other runs, is asked of the agent's server, by a client of its own.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from flowherd.agent.run_records import KnownRun, RunRecords
from flowherd.errors import BackendError, ConfigurationError, FlowherdError, InvalidRequest, NotFound
from flowherd.states import CLAIMABLE, FINISHED

if TYPE_CHECKING:
    from flowherd.client.client import Client
    from flowherd.client.runs import RunView
    from flowherd.story.timeline import TimelineEntry

#: Number of lines of a log by default and at most, and what is read of a journal for them, bytes.
_LINES, _MOST_LINES, _READ_BYTES = 100, 1000, 1024 * 1024
#: Longer lines are cut.
_MAX_CHARS = 4000


class RunRequests:
    """The requests for single runs. `open_client` returns a client of the agent's server, or raises FlowherdError."""

    def __init__(self, records: Callable[[], RunRecords], open_client: Callable[[], Client]) -> None:
        self._records = records
        self._open_client = open_client

    def routes(self) -> list[Route]:
        """Return the routes; a run is named by its id, the beginning of its id, or its name (?run=)."""
        return [
            Route("/api/explain", _answering(self._explain)),
            Route("/api/log", _answering(self._log)),
            Route("/api/ended", _answering(self._ended)),
            Route("/api/cancel", _answering(self._cancel), methods=["POST"]),
            Route("/api/retry", _answering(self._retry), methods=["POST"]),
            Route("/api/run", _answering(self._run), methods=["POST"]),
        ]

    def _explain(self, query: Mapping[str, str]) -> dict[str, Any]:
        now = datetime.now(timezone.utc)
        text = _needed(query, "run")
        known = self._here(text)
        if known is not None:
            from flowherd.agent.run_verdict import verdict_here

            story = self._records().history(known.id)
            verdict = asdict(verdict_here(known, now))
            return {**_identity(known), "verdict": verdict, "story": _entries(story), "here": True}
        with self._client() as client:
            return _at_server(client, client.find_run(text), now)

    def _log(self, query: Mapping[str, str]) -> dict[str, Any]:
        text, count = _needed(query, "run"), _number(query, "lines", _LINES, _MOST_LINES)
        known = self._here(text)
        if known is not None:
            offset = _number(query, "offset", -1, 2**62)
            part = self._records().journal(known.id, offset if offset >= 0 else -_READ_BYTES, _READ_BYTES)
            if part is not None:
                # From the end as many as are wanted; from an offset all that were read, so that none is left out.
                lines = part.lines if offset >= 0 else part.lines[-count:] if count else ()
                return {**_identity(known), "end": part.end, **_lines(lines)}
        with self._client() as client:
            run = client.find_run(text)
            found = client.connection.log(run.id).last_lines(count) if count else ()
            return {**_identity(run), **_lines(found)}

    def _ended(self, query: Mapping[str, str]) -> dict[str, Any]:
        """Return the newest runs that have ended on this host."""
        found = self._records().ended()[: _number(query, "limit", 20, 100)]
        return {"runs": [{**_identity(run), "message": run.message} for run in found]}

    def _cancel(self, query: Mapping[str, str]) -> dict[str, Any]:
        with self._client() as client:
            run = client.find_run(_needed(query, "run"))
            (change,) = client.cancel_all([run.id])
            if change.state is None:
                raise NotFound(f"the run {run.name} ({run.id}) no longer exists")
            return {"id": run.id, "name": run.name, "state": change.state, "was_finished": not change.done}

    def _retry(self, query: Mapping[str, str]) -> dict[str, Any]:
        with self._client() as client:
            run = client.find_run(_needed(query, "run"))
            return {"id": client.retry(run.id), "repeats": run.id, "name": run.name, "flow": run.flow}

    def _run(self, query: Mapping[str, str]) -> dict[str, Any]:
        try:
            parameters = json.loads(query.get("parameters") or "{}")
        except (ValueError, RecursionError) as error:
            raise InvalidRequest(f"parameters are no JSON: {error}") from error
        if not isinstance(parameters, dict):
            raise InvalidRequest("parameters must be a JSON object")
        flow, name = _needed(query, "flow"), query.get("name") or None
        with self._client() as client:
            return {"id": client.run(flow, parameters, name=name), "flow": flow}

    def _here(self, text: str) -> KnownRun | None:
        """Return the run that `text` means if this host knows it. Raises InvalidRequest if it knows several."""
        from flowherd.client.lookup import ambiguous

        records = self._records()
        if (exact := records.get(text)) is not None:
            return exact
        known = [*records.living(), *records.ended()]
        found = [run for run in known if run.id.startswith(text.lower()) or run.name == text]
        if len(found) > 1:
            raise ambiguous(text, [run.id for run in found])
        return found[0] if found else None

    @contextlib.contextmanager
    def _client(self) -> Iterator[Client]:
        with self._open_client() as client:
            client.connection.is_flowherd_server()  # only that server has all fields of a run
            yield client


def _at_server(client: Client, run: RunView, now: datetime) -> dict[str, Any]:
    """Return the explanation of a run that this host does not know."""
    from flowherd.story.timeline import events_of, timeline
    from flowherd.story.verdict import EndFacts, verdict
    from flowherd.story.waiting import run_waits

    history, agents = client.connection.history(run.id), client.connection.agents.all()
    states, account = history.states(), history.account() if run.finished else None
    last = states[-1] if states else None
    evidence = account.evidence if account is not None else ""
    end = EndFacts(reason=last.reason, grade=last.grade, evidence=evidence) if last is not None else EndFacts()
    waits = run_waits(run, agents, {}, now) if run.state in CLAIMABLE else []
    return {
        **_identity(run),
        "verdict": asdict(verdict(run, now=now, end=end, waits=waits)),
        "story": _entries(timeline(run, states, history.notices(), events_of(account))),
        "here": False,
    }


def _identity(run: KnownRun | RunView) -> dict[str, Any]:
    finished = run.state in FINISHED
    return {"id": run.id, "name": run.name, "flow": run.flow, "state": run.state, "finished": finished}


def _entries(entries: Sequence[TimelineEntry]) -> list[dict[str, Any]]:
    return [
        {"at": entry.at.isoformat() if entry.at is not None else None, "what": entry.what, "detail": entry.detail}
        for entry in entries
    ]


def _lines(lines: Sequence[Any]) -> dict[str, Any]:
    found = [
        {
            "at": line.at.isoformat(),
            "stream": "flowherd" if line.stream == "notice" else line.stream,
            "level": line.level,
            "message": line.message[:_MAX_CHARS],
        }
        for line in lines
    ]
    return {"lines": found}


def _needed(query: Mapping[str, str], name: str) -> str:
    value = query.get(name, "").strip()
    if not value:
        raise InvalidRequest(f"name a {name} (?{name}=)")
    return value


def _number(query: Mapping[str, str], name: str, default: int, most: int) -> int:
    try:
        return min(int(query.get(name) or default), most)
    except ValueError as error:
        raise InvalidRequest(f"{name} must be a whole number") from error


def _answering(answer: Callable[[Mapping[str, str]], dict[str, Any]]) -> Callable[[Request], Response]:
    """Return an endpoint; starlette runs it in a thread of its own pool, because it is no coroutine."""

    def endpoint(request: Request) -> Response:
        try:
            return JSONResponse(answer(request.query_params))
        except FlowherdError as error:
            return JSONResponse({"error": str(error)}, _status(error))
        except OSError as error:
            return JSONResponse({"error": str(error)}, 500)

    return endpoint


def _status(error: FlowherdError) -> int:
    if isinstance(error, NotFound):
        return 404
    return 502 if isinstance(error, BackendError) else 409 if isinstance(error, ConfigurationError) else 400
