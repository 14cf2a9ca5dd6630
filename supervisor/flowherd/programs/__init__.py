"""The programs that supervisord watches beside an agent: what became of them, as its event listener has logged it.

entry        one entry of the log
program_log  the log: files of a bounded size, which one process writes and others read
"""
