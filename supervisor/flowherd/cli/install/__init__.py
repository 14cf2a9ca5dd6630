"""`flowherd install`: prints service files for supervisord and systemd.

install_command   the command and its subcommands
supervisord_command the subcommand for supervisord
systemd_command   the subcommand for systemd
service_options   the options that the subcommands share
agent_service     the service that runs an agent with the present settings
credential_files  the files in which that service finds its secrets
"""
