"""Everything about supervisord and service files; the only package that imports PyPI's supervisor.

rpc                  asks a running supervisord about a program, and restarts one
configuration_files  the sections in its files
plugin_import        whether its interpreter can import flowherd's plugins (flowherd_supervisord)
plugin_sections      the text of the sections that switch them on
service_files        the text of service files for supervisord, and of a Prefect 3 server
systemd_units        the text of units for systemd

The event listener, a program that supervisord starts:

event_listener     the program: takes events, and logs what becomes of programs
supervisord_events supervisord's protocol, and the events that wait in the listener
agents_user        writing in an agent's directory as the agent's user
listener_state     how far it has come, to count what was lost between two listeners
ended_program      from an event to an entry of the log
program_calls      what it asks supervisord
logged_ends        lines of supervisord's log about the end of a process
program_memory     the kernel's counters of out-of-memory kills
program_verdict    why a program ended, how certain that is, and a sentence
"""
