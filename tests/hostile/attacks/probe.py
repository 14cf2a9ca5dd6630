"""A flow that looks whether it is kept apart: it leaves in PLACE/NAME.found what it has found.

python probe.py PLACE NAME HOME    HOME is flowherd's
"""

import json
import os
import sys


def main(place: str, name: str, home: str) -> None:
    """Look at the namespace, at flowherd's home, and at what was read from it."""
    found = {"namespace": os.readlink("/proc/self/ns/pid"), "leak": os.environ.get("LEAK"), "home": []}
    for path in (home, ".", *sys.argv[4:]):
        try:
            found["home"] += os.listdir(path)
        except OSError:
            continue
    path = os.path.join(place, name)
    with open(path + ".new", "w") as file:
        json.dump(found, file)
    os.rename(path + ".new", path + ".found")


if __name__ == "__main__":
    main(*sys.argv[1:4])
