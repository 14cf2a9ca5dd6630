"""The agent's one contact with its backend: all requests of an agent go through here.

Keeps what is known of the backend (last contact, a pause that it asked for with Retry-After, a refused token), so that
the poll loop, claims and deliveries agree on it. Retrying and back-off belong to the callers. Requests of engines
inside runs, and those of a person's commands, do not pass here.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence

from loguru import logger

from flowherd.agent.measures import Measures
from flowherd.agent.news import NewsListener
from flowherd.agent.requests import Answer, Requests
from flowherd.backends.protocol import Backend, ServerCapabilities, VersionedBackend
from flowherd.errors import BackendRefused, BackendUnavailable, NotAuthorized
from flowherd.values import AgentIdentity, EngineAccess, FlowRun, Wake

#: Longest pause that a Retry-After can cause, seconds; the backend is contacted again after it.
_LONGEST_PAUSE_S = 600.0
#: After a failed request, a server that does not say so can have been started again if it was silent for longer,
#: seconds.
_RESTART_S = 2.0
#: A backend that was silent for longer, seconds, is not waited for when the agent stops.
_LONG_SILENCE_S = 60.0


class Connection:
    """One agent's contact with its backend; usable from several threads.

    The backend is opened with the first request, so an agent can be made without one. `on_wake` is called in a thread
    of the connection when the backend has something for this agent, `on_refused` in the thread whose request was
    refused because of the token.
    """

    def __init__(
        self,
        open_backend: Callable[[], Backend],
        on_wake: Callable[[Wake], None],
        on_refused: Callable[[], None],
    ) -> None:
        self._open_backend = open_backend
        self._on_wake = on_wake
        self._on_refused = on_refused
        self._lock = threading.Lock()
        self._closing = threading.Event()
        #: When this connection was made (monotonic).
        self.opened_s = time.monotonic()
        #: When the backend last answered (monotonic); None before it ever did.
        self.last_contact_s: float | None = None
        #: Do not contact the backend before this time (monotonic), from Retry-After.
        self._not_before_s = 0.0
        #: The refusal of the token; once set, it stays.
        self.refused: NotAuthorized | None = None
        #: What the server can do; None until `connect` has succeeded.
        self.capabilities: ServerCapabilities | None = None
        #: Whether the agent has stopped, so that nothing more is to be sent.
        self.is_closed = False
        #: Whether a request has had no answer since the last one that had.
        self._was_away = False
        #: Which life of the server answered last, as far as it says so.
        self._instance = ""
        #: Grows with the first answer, and whenever the server may have been started again since the last one.
        self.epoch = 0
        #: Called when `epoch` has grown, in the thread whose request was answered.
        self.on_new_epoch: Callable[[], None] = lambda: None
        #: Called before the request by which the agent takes no more runs, in a thread of its own.
        self.before_last_request: Callable[[], None] = lambda: None
        #: What is counted of all that the agent does.
        self.measures = Measures()
        self.requests = Requests(self, urgent=False)
        #: Not held back by a pause: heartbeats of running runs, and a claim that has begun.
        self.urgent = Requests(self, urgent=True)

    @functools.cached_property
    def backend(self) -> Backend:
        """The backend itself. Raises ConfigurationError when none is configured and none runs on this host."""
        return self._open_backend()

    @property
    def address(self) -> str:
        """Where the backend is, for messages."""
        return self.backend.address

    # -- what is known of the backend

    def pause_s(self) -> float:
        """Return how long the backend is not to be contacted, seconds; 0.0 if it may be contacted now."""
        return max(0.0, self._not_before_s - time.monotonic())

    def silent_s(self) -> float:
        """Return the seconds since the backend last answered, or since this connection was made."""
        return time.monotonic() - (self.opened_s if self.last_contact_s is None else self.last_contact_s)

    def is_reachable(self) -> bool:
        """Return whether a request is likely to be answered now."""
        return self.refused is None and self.pause_s() == 0 and self.silent_s() < _LONG_SILENCE_S

    def check_open(self) -> None:
        """Raise what a request would raise without being sent: NotAuthorized, or BackendUnavailable in a pause."""
        if self.refused is not None:
            raise self.refused
        pause_s = self.pause_s()
        if pause_s > 0:
            raise BackendUnavailable(
                f"{self.address} asked not to be contacted for another {pause_s:.0f} s", retry_after_s=pause_s
            )

    def wait_until_open(self) -> None:
        """Wait until a pause that the backend asked for is over, or the agent stops."""
        while not self._closing.is_set() and self.refused is None:
            pause_s = self.pause_s()
            if pause_s <= 0:
                return
            self._closing.wait(pause_s)

    def rest(self, pause_s: float) -> bool:
        """Wait for `pause_s` seconds; return False at once if the agent stops."""
        return not self._closing.wait(pause_s)

    # -- requests

    @property
    def shares(self) -> bool:
        """Whether the server shares the due runs out among its agents, and takes many claims at once."""
        return self.capabilities is not None and self.capabilities.shares

    @property
    def delivers_together(self) -> bool:
        """Whether the backend takes log lines and the states that follow them together."""
        return self.capabilities is not None and self.capabilities.delivers_together

    @property
    def keeps_reports(self) -> bool:
        """Whether the server keeps what agents report of themselves."""
        return self.capabilities is not None and self.capabilities.keeps_agent_reports

    @property
    def keeps_accounts(self) -> bool:
        """Whether the backend keeps the accounts of ends, also of those that a run's own engine has reported."""
        return self.capabilities is not None and self.capabilities.keeps_accounts

    def due_runs(self, labels: Sequence[str], exclude: Collection[str], room: int | None) -> list[FlowRun]:
        """Fetch the flow runs that are due for this agent, which has room for `room` of them; None means any number.

        Also without room: the backend learns that the agent is alive, and the agent that the backend is.
        """
        if self.capabilities is not None and (self.shares or self.capabilities.asks_by_room):
            return self.requests.offered_runs(labels, exclude, room)
        return self.requests.ready_runs(labels, exclude)

    def make(self, request: Callable[[Backend], Answer], *, urgent: bool) -> Answer:
        """Make one request and keep what its outcome says about the backend.

        Raises what the backend raises, and what `check_open` does; `urgent` requests ignore a pause.
        """
        if self.refused is not None:
            raise self.refused
        if not urgent:
            self.check_open()
        try:
            answer = request(self.backend)
        except NotAuthorized as error:
            self._note_refusal(error)
            raise
        except BackendRefused:
            self._note_contact()
            raise
        except BackendUnavailable as error:
            self.measures.tally.add("flowherd_backend_failures_total")
            self._was_away = True
            self._note_retry_after(error.retry_after_s)
            raise
        self._note_contact()
        return answer

    def check_token(self) -> None:
        """Raise NotAuthorized unless the backend accepts the agent's token."""
        self.make(lambda backend: backend.check_token(), urgent=False)

    def register(self, identity: AgentIdentity) -> str:
        """Register the agent and return its id."""
        return self.make(lambda backend: backend.register(identity), urgent=False)

    def connect(self, register: Callable[[], str]) -> bool:
        """Connect and register, unless that is done already. Return True if it was done now.

        `register` registers the agent and returns its id.
        """
        if self.capabilities is not None:
            return False
        capabilities = self.make(lambda backend: backend.connect(), urgent=False)
        try:
            agent_id = register()
        except NotAuthorized:
            raise
        except BackendRefused as error:  # old servers do not register agents
            logger.debug("The backend does not register agents: {}", error)
        else:
            logger.debug("Registered as agent {}", agent_id)
        self.capabilities = capabilities
        logger.info("Connected to {} at {}; waiting for flow runs", capabilities.name, self.address)
        if capabilities.wakes:
            refused, end = (lambda: self.refused is not None), (lambda: self.backend.close())
            NewsListener(self.requests, self._on_wake, self._closing, refused, self.pause_s, end).start()
        return True

    def engine_access(self) -> EngineAccess | None:
        """Return how a flow's own engine reaches the backend; None if it cannot. Sends nothing."""
        return self.backend.engine_access()

    def engine_variables(self) -> Mapping[str, str]:
        """Return the variables that every run's engine needs. Sends nothing."""
        return self.backend.engine_variables()

    @property
    def is_closing(self) -> bool:
        """Whether the agent is stopping, so that nothing more is to be waited for."""
        return self._closing.is_set()

    def begin_closing(self) -> None:
        """End all waits: the agent is stopping. Requests can still be made."""
        begins = not self._closing.is_set()
        self._closing.set()
        if begins and self.shares and self.is_reachable():
            threading.Thread(target=self._decline, name="decline", daemon=True).start()

    def close(self) -> None:
        """Give the sockets back."""
        self.is_closed = True
        self._closing.set()
        if "backend" in self.__dict__:
            self.backend.close()
        self.measures.on_close()

    # -- inside

    @functools.cached_property
    def versioned_backend(self) -> VersionedBackend | None:
        """The backend, if the version of a run grows there with each of its states."""
        return self.backend if isinstance(self.backend, VersionedBackend) else None

    def _note_contact(self) -> None:
        now_s, backend = time.monotonic(), self.versioned_backend
        instance = "" if backend is None else backend.server_instance
        with self._lock:
            last_s, self.last_contact_s = self.last_contact_s, now_s
            was_away, self._was_away = self._was_away and not instance, False
            is_new = last_s is None or instance != self._instance or (was_away and now_s - last_s > _RESTART_S)
            self._instance = instance
            self.epoch += is_new
        if is_new:
            self.on_new_epoch()

    def _note_refusal(self, error: NotAuthorized) -> None:
        with self._lock:
            first = self.refused is None
            self.refused = self.refused or error
        if first:
            self._on_refused()

    def _note_retry_after(self, retry_after_s: float | None) -> None:
        if not retry_after_s:
            return
        now_s = time.monotonic()
        with self._lock:
            begins = self._not_before_s <= now_s
            self._not_before_s = max(self._not_before_s, now_s + min(retry_after_s, _LONGEST_PAUSE_S))
            pause_s = self._not_before_s - now_s
        if begins:
            logger.warning("{} asks for a pause (Retry-After): no request for {:.0f} s", self.address, pause_s)

    def _decline(self) -> None:
        """Have the server offer this agent no more runs."""
        try:
            self.before_last_request()
            self.requests.offered_runs((), (), 0)
        except Exception as error:  # what it was offered then passes on by itself
            logger.debug("The server could not be told that the agent takes no more runs: {!r}", error)
        finally:
            self.backend.close()
