"""Reports to flowherd's server every two seconds while somebody watches there, in a thread that exists only then."""

from __future__ import annotations

import functools
import threading

from loguru import logger

from flowherd.agent.connection import Connection
from flowherd.agent.orders import Orders
from flowherd.agent.own_report import OwnReport
from flowherd.errors import BackendError
from flowherd.recurring_error import RecurringError
from flowherd.story.live_news import REPORT_S, LiveNews

#: Time between two reports of an agent that waits for its runs while nobody watches, seconds.
_UNWATCHED_S = 20.0


class LiveReports:
    """Sends the agent's report as long as the server answers that somebody watches."""

    def __init__(self, connection: Connection, report: OwnReport, orders: Orders) -> None:
        self._connection = connection
        self.own_report = report
        self._orders = orders
        self._lock = threading.Lock()
        self._news = LiveNews()
        self._is_going = False
        #: Whether to go on although nobody watches, because the agent makes no other requests for runs.
        self._keeps_on = False
        #: Set when there is news that changes what is reported.
        self._changed = threading.Event()
        self._sending = RecurringError("report to the server while somebody watches there", logger)

    def take(self, news: LiveNews) -> None:
        """Begin to report if somebody watches or has asked something; for the thread that waits for news."""
        with self._lock:
            if not news and not self._is_going:
                return
            self._news = news
            starts, self._is_going = not self._is_going, True
        self._changed.set()
        if starts:
            try:
                threading.Thread(target=self._go, name="live", daemon=True).start()
            except RuntimeError as error:  # the host has no thread left: the next news starts it
                logger.debug("Cannot report while somebody watches: {}", error)
                self._is_going = False

    def keep_on(self) -> None:
        """Report every twenty seconds from now on: the agent waits for its runs, and polls no more."""
        self._keeps_on = True
        self.take(LiveNews(watched=True))

    def _go(self) -> None:
        while True:
            self._changed.clear()
            with self._lock:
                news, self._news = self._news, LiveNews()
                if not (news or self._keeps_on) or self._connection.is_closed or self._connection.refused is not None:
                    self._is_going = False
                    return
            try:
                if news.orders:
                    self._orders.take(news.orders, functools.partial(self._send, news))
                else:
                    self._send(news)
            except BackendError as error:  # the server says again whether somebody watches
                logger.debug("No report while somebody watches: {!r}", error)
            except Exception as error:  # what is only to be looked at must not end anything
                self._sending.failed(error)
            self._changed.wait(REPORT_S if news else _UNWATCHED_S)

    def _send(self, news: LiveNews) -> None:
        answer = self._connection.requests.send_report(self.own_report.live(news.looked_at))
        self._sending.recovered()
        with self._lock:
            if not self._news:  # else newer news has come meanwhile
                self._news = answer
