"""Flows in a process of the command line, without agent: to run one in the terminal, and to check one.

definition        what a flow is: from the server, from its last registration, or as it is written
kept_definitions  copies of what was registered from this host
child             the spec of such a process, and its start
run_here          `flowherd run --here`
check_flow        the checks of `flowherd register`
"""
