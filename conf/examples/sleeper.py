"""A flow that starts a process and waits for it; `flowherd cancel` ends both."""

import subprocess
import sys


def sleep_long(seconds=3600):
    """Sleep in a child process."""
    child = subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({float(seconds)})"])
    print("waiting for process", child.pid, flush=True)
    child.wait()
