"""From a GraphQL text to rows and back. One way for all tables; nothing here knows a table by name."""
