"""The agent's own forks: while one is under way, its child holds every lock that this process holds.

Between fork(2) and execve(2) a child has all descriptors of its parent, close-on-exec or not (open(2), O_CLOEXEC), and
a flock(2) is held as long as any process has the descriptor. So whoever concludes from a lock of our own that somebody
else holds it must know that no child of this process is on its way; and whoever starts one says so here.
"""

from __future__ import annotations

import threading

#: Held while a program is started; Popen returns once its child has called execve(2). Hold it to be sure there is none.
FORK_LOCK = threading.Lock()
