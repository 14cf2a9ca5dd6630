"""flowherd's embedded server: GraphQL over HTTP on SQLite, in the Prefect 0.x/1.x dialect (docs/dialect.md).

It is a program of its own, `python -m flowherd_server`, which meets agents and command line over HTTP and the lane. It
imports from flowherd the words (errors, states, signals, times) and the configuration, and flowherd never imports it.

A request goes from top to bottom, and a module imports only from its own folder and from what stands below it:

    __main__, serve    the program: arguments, socket, signals; server_files: its lock and server.json;
                       port_holder: what has its port already; maintenance: backup and check; reload
    web/, lane/        its two doors: the web application (access check, routes), and the lane for flowherd's own
                       programs on this host; pages/: what people see in a browser, and their actions
    service            puts everything together; background: what the server does by itself;
                       database_watch: whether the database is still there
    mutations/         the dialect's mutations, one family a module
    schedules/         when schedules fire, and the flow runs that are created for them
    rules/             overlap, catch-up and attempts, as flows have them
    runs/              flow runs and task runs: creation, states, rescue of dead ones, waking of agents
    graphql/           the schema generated from the tables, and the way from a query to its rows
    store/             the database: tables and views, lines, migrations, conversion, pruning
    call, errors       the context of one change; refusals
    offers             which due run is offered to which agent; label_rule: which agent may take which run
"""

import flowherd  # noqa: F401  # first: says what is needed, where the rest cannot be imported
