"""Commands about flow runs: start, list, cancel them and read their logs.

run_command, ps_command, logs_command, wait_command, cancel_command, retry_command, delete_command
run_filters the options that choose runs; ps_rows, ps_columns, ps_watch: what ps lists, and how
selection   the runs that a command is for, and asking before they are changed
lookup      the run on this host that a person means
follow      a run's log as it grows
local_runs  the run directories of this host and their journals
log_view    how log lines are shown
"""
