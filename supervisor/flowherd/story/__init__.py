"""What is told of runs and agents, the same in the command line, on the server's page and wherever else.

order         which runs come first: running, due, failed lately, next
agent_report  what an agent reports of itself
usual         how long the runs of a flow usually take
"""
