"""`flowherd import crontab`: the lines of crontab(5) as a project file of flows.

crontab_lines   what the lines say: jobs with their schedule, user, variables, command and input
job_names       a name for each job
convert         jobs as flows, and what differs from cron
flows_toml      the text of the file
"""
