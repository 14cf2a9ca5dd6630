"""Commands about flow runs: start, list, cancel them and read their logs.

run_command, ps_command, cancel_command, logs_command
run_filters the options that choose runs; ps_rows, ps_columns, ps_watch: what ps lists, and how
lookup      the flow or run that a person means
follow      a run's log as it grows
local_runs  the run directories of this host and their journals
log_view    how log lines are shown
"""
