"""The lane: a second door to the server for flowherd's own programs, over a Unix socket (docs/reference/lane.md).

listener       the socket beside the database, and who may connect
connection     one client: what it sends, and what it is sent
thread         the one thread that reads all requests, carries them out and writes
backlog        which requests are the next transaction
carry_out      many requests in one transaction
requests       what a request and an operation are
operations     all operations; each is a function in a module ops_*.py
given          reading what a request says
"""
