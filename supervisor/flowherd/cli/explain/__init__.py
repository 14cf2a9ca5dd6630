"""`flowherd explain`: why a run waits, what happened to it, why it ended.

explanation      the timeline of a run, from the backend and from its directory
waiting_reasons  why a run has not started, or which agent has it
"""
