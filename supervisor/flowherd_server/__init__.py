"""The embedded server: GraphQL over HTTP on SQLite, speaking the Prefect 0.x/1.x dialect (docs/dialect.md).

    tables      what is stored, and what is related to what; the GraphQL schema is generated from it
    database    SQLite: one writer at a time, many readers
    graphql     from a query's text to rows: schema, compiler, loader, execution
    mutations   what changes something, one family a module
    wake        who waits for what; scheduler, pruning: what happens by itself
    http, main  the web application, and the program around it

It shares states, values and errors with the agent's side and meets it over HTTP only.
"""
