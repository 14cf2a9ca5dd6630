"""`flowherd notify`: the channels and rules of notifications, and a test of them.

notify_command  the commands
sources         where both are known: at flowherd's server, or beside a Prefect 3 pool on this host
"""
