"""`flowherd install`: service files for supervisord and systemd."""
