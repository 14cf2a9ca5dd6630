"""The server's notifications: what it notices, and where they wait for their delivery.

outbox    the outbox in the database
events    from ends of runs and missed times to notifications
looks     what the server looks for now and then; run_looks and agent_looks do it, and found has what they share
notifier  the thread that does both, and the delivery
rules     the rules and channels that are stored beside them
"""
