"""The server's web application: routes, access guard, status page."""
