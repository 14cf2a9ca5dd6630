"""`flowherd doctor`: each check looks at one thing, grades it, and says what to do about it.

finding             the result of a check
check_backend       the API: whether it answers, how fast, its token, its clock
check_work_pool     the same for a work pool of Prefect 3
check_agent         the agent of these settings: its directory, its supervisor, what earlier runs left
check_supervisord   the supervisord that runs the agent, and flowherd's plugins in it
check_fork_servers  the interpreters that runs are forked from
check_host          disks, limits, what the kernel offers
"""
