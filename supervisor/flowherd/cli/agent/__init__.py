"""Commands about agents: start one, see how it is, wake, pause, resume, drain and restart it.

start_command   the agent itself, in this process
status_command, poke_command, pause_command, resume_command, drain_command, restart_command
agent_client    talks to a running agent
ask_supervisord what supervisord knows about an agent that it runs
"""
