"""Flows for the real Prefect 0.x and 1.x, and the program that registers them. Run by their interpreters alone.

Each module has the flows of one theme in its list FLOWS: functions without arguments, each of which makes the flow that
has the function's name with hyphens. A flow that one of the versions cannot have is not in its list.
"""
