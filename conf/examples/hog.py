"""A flow that takes more and more memory until a limit ends it."""

import time

MEGABYTE = 1024 * 1024


def grow(step_mb=10, most_mb=1000):
    """Take `step_mb` more every 50 ms, up to `most_mb`; a memory limit ends the run long before that."""
    taken = []
    while len(taken) * step_mb < most_mb:
        taken.append(bytearray(step_mb * MEGABYTE))
        if len(taken) % 5 == 0:
            print("holding", len(taken) * step_mb, "MB", flush=True)
        time.sleep(0.05)
    print("nobody stopped it")
