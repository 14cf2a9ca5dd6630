"""The command line: one command family a file, over the layers below it, which do the work.

main         the program: all commands, and what becomes of an error
start        the agent; embedded: the server that it brings up beside itself
server       the embedded server alone
flows        register; flow_document: what is registered
runs         run, ps, cancel
logs         logs; follow: a run's log as it grows; local_runs: this host's journals; log_view: how lines look
agents       poke, status
config_cmd   config
install      supervisord and systemd
demo         everything at once, in a temporary place
arguments    shared options; completion: what the shell completes; lookup: which flow or run a person means
api_address  where the API is; texts: durations, sizes, parameters; output: rich, plain or JSON; exit_codes
"""
