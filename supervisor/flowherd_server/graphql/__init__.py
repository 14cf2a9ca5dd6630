"""GraphQL: the schema generated from the tables, and the way from a request's text to its answer."""
