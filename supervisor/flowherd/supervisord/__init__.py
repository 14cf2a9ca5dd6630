"""Everything about supervisord and service files; the only package that imports PyPI's supervisor.

rpc            asks a running supervisord about a program, and restarts one
service_files  the text of service files for supervisord, and of a Prefect 3 server
systemd_units  the text of units for systemd
"""
