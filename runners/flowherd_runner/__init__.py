"""flowherd's child side: fork server and runner, standard library only, Python 3.7 or newer."""
