"""Flows for the real Prefect of both lines, and the program that registers them. Run by a peer's interpreter alone.

Each module has the flows of one theme in its list FLOWS: functions without arguments, each of which makes the flow that
is called as the function is, with hyphens. A function that cannot be had in one of the versions is not in its list.
"""
