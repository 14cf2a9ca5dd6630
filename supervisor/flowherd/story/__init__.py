"""What people read about runs and agents, the same in the command line and on the server's page.

order         which runs come first: running, due, failed lately, next
agent_report  what an agent reports of itself
usual         how long the runs of a flow usually take
"""
