"""What base.html needs of a page of the agent."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from flowherd import __version__


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The frame of one page; flowherd_server/pages/frame.py has that of the server's."""

    title: str
    #: What came of the action before; empty if there was none.
    said: str = ""
    new_token: Callable[[], str]
    #: Where forms lead back to.
    back: str = "/"
    nav: tuple[()] = ()
    here: str = ""
    live: str = ""
    may_act: bool = True
    login: bool = False
    login_name: str = ""
    version: str = __version__
    host: str = field(default_factory=platform.node)
    zone: str = field(default_factory=lambda: time.tzname[time.localtime().tm_isdst > 0])
