"""What the agent reports to a service manager with a watchdog (sd_notify(3)): that it is alive and has contact.

The poll loop alone proves little: an agent whose requests all fail polls like any other. So WATCHDOG=1 is held back if
the backend has not answered the agent for long although it answers a new connection, because another process would
then do better. While the backend answers nobody, another process would not, and the agent goes on.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable

from loguru import logger

from flowherd.agent.connection import Connection
from flowherd.agent.systemd import notify

#: How long a new connection may take to bring an answer, seconds.
_ASK_TIMEOUT_S = 10.0
#: Time between two reports of an agent that stops, seconds, and what each adds to the time that it has for that.
_STOPPING_S, _EXTENSION_S = 2.0, 30.0


def watchdog_s() -> float | None:
    """Return the time after which the service manager ends a silent agent, seconds; None if it never does."""
    try:
        usec, pid = int(os.environ["WATCHDOG_USEC"]), int(os.environ.get("WATCHDOG_PID", os.getpid()))
    except (KeyError, ValueError):
        return None
    return usec / 1e6 if usec > 0 and pid == os.getpid() else None


class Watchdog:
    """Reports of one agent. `beat` and `stopping` are called by one thread.

    `is_answered(address)` asks the backend by a new connection whether it answers at all.
    """

    def __init__(self, connection: Connection, is_answered: Callable[[str], bool] | None = None) -> None:
        self._connection = connection
        self._is_answered = is_answered or answers_anew
        self._limit_s = watchdog_s()
        #: The longest time that the agent may rest between two beats, seconds; None: any.
        self.step_s = None if self._limit_s is None else self._limit_s / 3
        #: The state of the agent in a few words.
        self.describe: Callable[[], str] = lambda: ""
        self._described = ""
        self._asking: threading.Thread | None = None
        #: Whether others get an answer where the agent gets none, and when that was last asked (monotonic).
        self._is_cut_off = False
        self._asked_s = 0.0
        self._stopping_s = 0.0

    def ready(self) -> None:
        """Report that the agent works."""
        notify("\n".join(["READY=1", *self._status()]))

    def beat(self) -> None:
        """Report that the agent is alive, if it has contact or nobody has. Never waits."""
        lines = self._status()
        if self._limit_s is not None and self._has_contact(self._limit_s):
            lines.append("WATCHDOG=1")
        if lines:
            notify("\n".join(lines))

    def stopping(self) -> None:
        """Report that the agent is alive and needs more time to stop; does nothing if it has just said so."""
        now_s = time.monotonic()
        if now_s - self._stopping_s >= min(_STOPPING_S, self.step_s or _STOPPING_S):
            self._stopping_s = now_s
            notify("\n".join(["WATCHDOG=1", f"EXTEND_TIMEOUT_USEC={_EXTENSION_S * 1e6:.0f}", *self._status()]))

    def _status(self) -> list[str]:
        if not os.environ.get("NOTIFY_SOCKET"):
            return []
        text = self.describe()
        if text == self._described:
            return []
        self._described = text
        return [f"STATUS={text}"]

    def _has_contact(self, limit_s: float) -> bool:
        contact = self._connection
        if contact.silent_s() < limit_s / 2 or contact.pause_s() > 0:
            if self._is_cut_off:
                logger.info("The backend answers again", action="watchdog")
            self._is_cut_off = False
        elif self._asking is None or (not self._asking.is_alive() and time.monotonic() - self._asked_s > limit_s / 6):
            self._asked_s = time.monotonic()
            self._asking = threading.Thread(target=self._ask, name="watchdog", daemon=True)
            self._asking.start()
        return not self._is_cut_off

    def _ask(self) -> None:
        answered = False
        with contextlib.suppress(Exception):  # no address, no such host: then nobody gets an answer
            answered = self._is_answered(self._connection.address)
        if answered and not self._is_cut_off:
            logger.error(
                "{} answers new connections, but has not answered this agent for {:.0f} s: the watchdog of the service "
                "manager is to start the agent again; its runs go on",
                self._connection.address,
                self._connection.silent_s(),
                action="watchdog",
            )
        self._is_cut_off = answered


def answers_anew(address: str) -> bool:
    """Return whether a new connection to `address` brings an answer other than a server's error.

    No credentials are sent, so whose certificate it is does not matter.
    """
    if not address.startswith(("http://", "https://")):
        return False
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with urllib.request.urlopen(address, timeout=_ASK_TIMEOUT_S, context=context):
            return True
    except urllib.error.HTTPError as error:
        return error.code < 500
    except OSError:
        return False
