"""The server's web application: routes, access check."""
