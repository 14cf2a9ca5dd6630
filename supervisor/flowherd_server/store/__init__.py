"""The server's database: SQLite, its tables, migrations and pruning, and looking up rows."""
