"""The server's database: SQLite, tables, migrations, pruning."""
