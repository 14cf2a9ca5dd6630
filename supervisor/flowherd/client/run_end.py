"""Waiting for the end of a flow run: told by the server right after it has stored it, if it can do that.

Over the server's lane (docs/reference/lane.md) if it is on this host, else by a request that the server holds. Servers
that have neither, such as Prefect's, tell nothing, and have to be asked again and again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

from flowherd import __version__
from flowherd.backends import json_values
from flowherd.backends.graphql.transport import WAIT_FOR_END, GraphQLTransport
from flowherd.backends.json_values import DECODING_ERRORS
from flowherd.client.runs import RunSummary
from flowherd.errors import BackendError
from flowherd.lane.client import LaneClient, LaneClosed, LaneRefused
from flowherd.lane.messages import LINES

#: How long the server may hold a request, seconds.
_HELD_S = 30.0
#: Time that a held request may take beyond that before the connection counts as broken, seconds.
_MARGIN_S = 10.0
#: Pause before a held request that failed is sent again, seconds.
_RETRY_S = 1.0
#: Longest wait for an answer of the lane that has begun to come, seconds.
_LANE_TIMEOUT_S = 5.0


class EndWait:
    """A wait for the end of one run, which begins now; at a server that cannot tell, `wait` only waits.

    A server that is away, or a run that was deleted, is not noticed here.
    """

    def __init__(self, transport: GraphQLTransport, run_id: str) -> None:
        self._transport = transport
        self._run_id = run_id
        self._closed = False
        self._end: RunSummary | None = None
        self._ended = threading.Event()
        self._request_id = 0
        self._lane = self._open_lane()
        #: Whether the server tells of new lines, and whether it has, before the last `wait` returned.
        self.tells_lines = False
        self.has_lines = False
        #: Whether the server tells the end.
        self.is_told = self._lane is not None or WAIT_FOR_END in transport.server_extensions
        if self._lane is None and self.is_told:
            self._hold_requests()

    def wait(self, timeout_s: float) -> RunSummary | None:
        """Return how the run ended, as soon as that is known; None after `timeout_s`, or for new lines."""
        self.has_lines = False
        if self._end is None and self._lane is not None:
            self._wait_at_lane(self._lane, timeout_s)
        elif self._end is None and self.is_told:
            self._ended.wait(timeout_s)
        elif self._end is None:
            time.sleep(timeout_s)
        return self._end

    def follow(self) -> None:
        """Have `wait` return also when the run has new lines, if the server tells that."""
        if self._lane is not None and "follow" in self._lane.operations:
            try:
                self._lane.send("follow", flow_run_id=self._run_id)
            except LaneClosed:
                self._go_on_over_http()
            else:
                self.tells_lines = True

    def close(self) -> None:
        """End the wait."""
        self._closed = True
        if self._lane is not None:
            self._lane.close()

    def _open_lane(self) -> LaneClient | None:
        path = self._transport.server_lane
        if path is None:
            return None
        lane = None
        try:
            instance, version = self._transport.server_instance, f"flowherd-{__version__}"
            lane = LaneClient(path, _LANE_TIMEOUT_S, instance=instance, core_version=version)
            self._request_id = lane.send("wait", flow_run_id=self._run_id)
        except (LaneClosed, LaneRefused):
            if lane is not None:
                lane.close()
            return None
        return lane

    def _wait_at_lane(self, lane: LaneClient, timeout_s: float) -> None:
        deadline_s = time.monotonic() + timeout_s
        try:
            while self._end is None and not self.has_lines:
                frame = lane.next_frame(max(0.0, deadline_s - time.monotonic()))
                if frame is None:
                    return
                if frame.head.get("id") == self._request_id:
                    self._take(frame.head["ok"])
                self.has_lines = frame.head.get("push") == LINES
            # What has come meanwhile says no more, except the end.
            while self._end is None and (frame := lane.next_frame(0.0)) is not None:
                if frame.head.get("id") == self._request_id:
                    self._take(frame.head["ok"])
        except (LaneClosed, *DECODING_ERRORS):  # the server was stopped, say
            self._go_on_over_http()

    def _go_on_over_http(self) -> None:
        if self._lane is not None:
            self._lane.close()
        self._lane, self.tells_lines = None, False
        self._hold_requests()

    def _hold_requests(self) -> None:
        threading.Thread(target=self._hold, name="end", daemon=True).start()

    def _hold(self) -> None:
        path = f"/flow_runs/{self._run_id}/end"
        while self._end is None and not self._closed:
            try:
                self._take(self._transport.get(path, {"timeout": _HELD_S}, _HELD_S + _MARGIN_S))
            except (BackendError, *DECODING_ERRORS):
                time.sleep(_RETRY_S)

    def _take(self, answer: Mapping[str, Any]) -> None:
        run = json_values.mapping(answer)["flow_run"]
        if run is not None:
            found = json_values.mapping(run)
            name, message = (
                json_values.text_or_none(found["name"]) or "",
                json_values.text_or_none(found["state_message"]),
            )
            self._end = RunSummary(id=self._run_id, name=name, state=json_values.text(found["state"]), message=message)
            self._ended.set()
