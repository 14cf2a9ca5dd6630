"""Everything about supervisord and service files; the only package that imports PyPI's supervisor.

rpc                  asks a running supervisord about a program, and restarts one
configuration_files  the sections in its files
plugin_import        whether its interpreter can import flowherd's plugins (flowherd_supervisord)
plugin_sections      the text of the sections that switch them on
service_files        the text of service files for supervisord, and of a Prefect 3 server
systemd_units        the text of units for systemd
"""
