"""`python -m flowherd.notify.send_by_apprise`: hands one message to apprise; JSON with url, title, body and type.

The URL comes on standard input, because every user of the host can read a process's arguments.
"""

from __future__ import annotations

import json
import logging
import sys

from flowherd.notify.channels import MISSING_APPRISE, NO_APPRISE


def main() -> int:
    """Deliver the message on standard input. Returns 0 if the service has taken it."""
    given = json.load(sys.stdin)
    try:
        from apprise import Apprise  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        print(MISSING_APPRISE)
        return NO_APPRISE
    logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.WARNING)
    service = Apprise()
    if not service.add(given["url"]):
        print("apprise does not know such a URL; its documentation lists the services")
        return 1
    return 0 if service.notify(title=given["title"], body=given["body"], notify_type=given["type"]) else 1


if __name__ == "__main__":
    sys.exit(main())
