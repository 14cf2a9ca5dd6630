"""All commands by name, with the module of each, which is imported when it is needed, and its line in the help.

The line is the first paragraph of the command's own help; a test holds that both are the same.
"""

from __future__ import annotations

ABOUT = "Supervise flow runs on this host: claim them, fork one runner per run, watch every process, lose none."
EPILOG = "Start with:  flowherd demo   |   flowherd start   |   flowherd COMMAND --help"

#: Module, below flowherd.cli, and line of each command, in the order of `flowherd --help`.
COMMANDS = {
    "start": (
        "agent.start_command",
        "Start the agent: claim flow runs that match its labels and run each in a process tree of its own.",
    ),
    "register": (
        "flows.register_command",
        "Register a flow: a Python callable, or a command. Registering it again creates a new version.",
    ),
    "unregister": (
        "flows.unregister_command",
        "Unregister a flow: its schedule ends, its waiting runs are cancelled, and what has run stays.",
    ),
    "apply": (
        "apply.apply_command",
        "Make the flows of a project what a file says, flows.toml, and show what has changed.",
    ),
    "run": ("runs.run_command", "Start a run of a flow, now or later, and print its id."),
    "ps": (
        "runs.ps_command",
        "List the runs: what runs, is due, failed lately and comes next; with --all the finished ones too.",
    ),
    "top": (
        "top.top_command",
        "Show the runs live on the whole terminal: what needs attention, what runs, logs, agents; cancel, run again.",
    ),
    "wait": (
        "runs.wait_command",
        "Wait until runs have ended, and print how each ended; one that has ended already counts too.",
    ),
    "flows": (
        "flows.flows_command",
        "List the registered flows: how the last runs went, the next run, the schedule; those in trouble first.",
    ),
    "flow": (
        "flows.flow_command",
        "Show a flow: definition, versions, schedule with its next times, parameters and defaults, last runs.",
    ),
    "schedules": (
        "schedules.schedules_command",
        "List the schedules of all flows, the next to fire first, paused ones last; `schedule` changes them.",
    ),
    "agents": (
        "agent.agents_command",
        "List the agents that the server knows: state, runs and limit, last contact, and why one claims nothing.",
    ),
    "cancel": (
        "runs.cancel_command",
        "Cancel runs: the whole process tree of each is asked to end, and killed if it does not.",
    ),
    "retry": (
        "runs.retry_command",
        "Repeat runs that have ended: start a new run of each with the same parameters, and print its id.",
    ),
    "logs": (
        "runs.logs_command",
        "Print a run's log: from the backend, or if that does not have it, from the journal on this host.",
    ),
    "explain": (
        "explain.explain_command",
        "Show a run's story: why it waits, who claimed it, its processes, how far its log was sent, why it ended.",
    ),
    "poke": (
        "agent.poke_command",
        "Wake agents so that they look for runs now: all agents of a flowherd server, or one by its address.",
    ),
    "status": (
        "agent.status_command",
        "Show whether the agent is up: according to supervisord if it runs the agent, else to its state directory.",
    ),
    "pause": (
        "agent.pause_command",
        "Make the agent stop claiming runs; its present runs go on. Lasts until `resume`, also across restarts.",
    ),
    "resume": ("agent.resume_command", "Make a paused agent claim runs again."),
    "drain": (
        "agent.drain_command",
        "Make the agent stop claiming runs and end when its present runs have ended; the deadline ends the rest.",
    ),
    "restart": (
        "agent.restart_command",
        "Restart the agent with the present code and settings; its runs go on meanwhile.",
    ),
    "reload": (
        "agent.reload_command",
        "Make the agent read its settings again while its runs go on, and print what changed and what was refused.",
    ),
    "doctor": (
        "doctor.doctor_command",
        "Check all that an agent needs: API, token, clock, disk, limits, kernel, supervisor, fork server, leftovers.",
    ),
    "config": (
        "config_command",
        "Show every setting with its value and where the value came from; secrets are masked.",
    ),
    "demo": (
        "demo.demo_command",
        "Show flowherd at work: start a server and an agent in a temporary place, run six example flows, show their "
        "logs.",
    ),
    "schedule": (
        "schedules.schedule_command",
        "List the schedules of flows, pause and resume them, show their next times, or start a run of one now.",
    ),
    "delete": (
        "runs.delete_command",
        "Delete runs with their logs, or flows with all their runs. This cannot be undone.",
    ),
    "notify": (
        "notify.notify_command",
        "List the channels and rules of notifications and what became of the newest ones, or try the channels.",
    ),
    "server": (
        "server.server_command",
        "Run the embedded server: GraphQL over HTTP on SQLite, with pages for a browser. Prints its address when it is "
        "ready.",
    ),
    "import": ("crontab.import_command", "Turn the jobs of cron into a project file of flows."),
    "install": ("install.install_command", "Print the configuration that runs an agent as a service."),
}

#: The options of the program itself, and what they do.
OPTIONS = {
    "--version": "Print the version.",
    "--install-completion": "Install completion for the current shell.",
    "--show-completion": "Show completion for the current shell, to copy it or customize the installation.",
    "--help  -h": "Show this message and exit.",
}
