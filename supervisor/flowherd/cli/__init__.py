"""The command line: `flowherd COMMAND` is in FAMILY/COMMAND_command.py; what all commands share is on top.

main                  the program, and what happens on an error
commands              all commands by name, with their lines in the help
program               the commands in Typer's form; help_screen draws the help of the program without it
plain_parameters      spares Typer the conversion of plain texts and numbers
options               every shared option, and every option that overrides a setting, with that setting
parse_options         durations, sizes, K=V pairs and times as people write them
open_client           connects a command to the server that it is meant for
completion            what the shell completes
printing              printing for people and for scripts
format_times          times and lengths of time for people
exit_codes, failures  what an exit code means, and the errors that lead to it
config_command        `flowherd config`
settings_reference    makes docs/reference/settings.md

agent    start, status, poke, pause, resume, drain, restart
server   server
flows    register, unregister
runs     run, ps, wait, cancel, retry, delete, logs
explain  explain
doctor   doctor
install  install supervisord, systemd, prefect-server
demo     demo
"""
