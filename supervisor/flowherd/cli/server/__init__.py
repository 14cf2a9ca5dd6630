"""`flowherd server`, and the embedded server that `flowherd start` runs beside an agent.

The server is a program of its own, `python -m flowherd_server`; nothing of it is imported here.
"""
