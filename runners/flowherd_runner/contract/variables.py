"""What the user's code finds in its environment, and the kinds of run."""

#: Set in every process of a run; also how a process that left the session is recognised as the run's.
RUN_ID_VARIABLE = "FLOWHERD_FLOW_RUN_ID"
#: In the environment of a fork server, as a JSON object: variables that the runs' environments will have, for modules
#: that read the environment when they are imported. No run sees it.
IMPORT_ENVIRONMENT_VARIABLE = "FLOWHERD_IMPORT_ENVIRONMENT"
#: In the environment of a fork server, as a JSON list: the agent's own credentials, which a run may find in a file,
#: and which are masked in its output. No run sees it.
AGENT_SECRETS_VARIABLE = "FLOWHERD_AGENT_SECRETS"
#: What a fork server's own environment has under that name, as long as any run's id: see marking.py.
NO_RUN_ID = "-" * 36
RUN_NAME_VARIABLE = "FLOWHERD_FLOW_RUN_NAME"
FLOW_NAME_VARIABLE = "FLOWHERD_FLOW_NAME"
#: All parameters as one JSON object.
PARAMETERS_VARIABLE = "FLOWHERD_PARAMETERS"
#: One variable a parameter: the prefix and the parameter's name; strings as they are, all else as JSON.
PARAMETER_PREFIX = "FLOWHERD_PARAM_"

# Kinds of run: spec.json names one of them under "kind".
KIND_COMMAND = "command"  # target: {"argv": [str, ...]}
KIND_PREFECT = "prefect"  # target: {}; what Prefect must know is in the environment, as an agent of its own sets it
# target: {"flow_run_id": str, "entrypoint": str | null, and where the agent has them, as the server answered:
# "flow_run": {...}, "deployment": {...}}; all else is in the environment
KIND_PREFECT3 = "prefect3"
# target: the same, and {"argv": [str, ...]}, which is run in place of the engine where the code has been put
KIND_PREFECT3_COMMAND = "prefect3-command"
KIND_PYTHON = "python"  # target: {"ref": "module:function" or "path/to/file.py:function"}

#: Modules of the child side that import Prefect 0.x or 1.x, and what its runs need, into a fork server.
PREFECT_PRELOAD = ("flowherd_runner.kinds.prefect1.warm",)
#: The same for Prefect 3.
PREFECT3_PRELOAD = ("flowherd_runner.kinds.prefect3.warm",)
