"""What to do, decided from values alone: no process, no file, no socket, and the clock only as an argument."""
