"""What people read about runs and agents, the same in the command line and on the server's page.

order         which runs come first: running, due, failed lately, next
agent_report  what an agent reports of itself
live          what an agent reports of one running run
stuck         whether a running run is stuck
sent_values   reading of what another process has sent
usual         how long the runs of a flow usually take
"""
