"""What a fork server imports so that runs of Prefect flows need not: to be named as its preload.

Imports nothing that starts a thread, opens a connection or reads what belongs to one run.
"""

import importlib

#: Every version has the first; the others are what it imports on the way to a flow's first task.
_NEEDED = ("prefect", "prefect.engine.cloud", "prefect.cli.execute")

for _name in _NEEDED:
    importlib.import_module(_name)
