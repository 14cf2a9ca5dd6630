"""Environment variables of a run's processes, the kinds of run, and the modules that fork servers preload for them."""

#: Set in every process of a run; by it a process that has left the run's session is still recognised as the run's.
RUN_ID_VARIABLE = "FLOWHERD_FLOW_RUN_ID"
#: In the environment of a fork server, as a JSON object: variables that all runs will have, for modules that read the
#: environment when they are imported. No run sees it.
IMPORT_ENVIRONMENT_VARIABLE = "FLOWHERD_IMPORT_ENVIRONMENT"
#: In the environment of a fork server of an agent of 0.1.0, as a JSON list: the agent's own credentials, which are
#: masked in the output of runs (agent_secrets.py). No run sees it.
AGENT_SECRETS_VARIABLE = "FLOWHERD_AGENT_SECRETS"
#: In the environment of a fork server that has started itself again, as a JSON object: the modules that it must not
#: preload, and why. No run sees it.
LEFT_OUT_VARIABLE = "FLOWHERD_LEFT_OUT_OF_PRELOAD"
#: Value of RUN_ID_VARIABLE in the environment of a fork server, as long as any run's id: see process_mark.py.
NO_RUN_ID = "-" * 36
RUN_NAME_VARIABLE = "FLOWHERD_FLOW_RUN_NAME"
FLOW_NAME_VARIABLE = "FLOWHERD_FLOW_NAME"
#: All parameters as one JSON object.
PARAMETERS_VARIABLE = "FLOWHERD_PARAMETERS"
#: One variable per parameter: this prefix and the parameter's name; strings unchanged, everything else as JSON.
PARAMETER_PREFIX = "FLOWHERD_PARAM_"

# Kinds of run: spec.json names one of them under "kind".
KIND_COMMAND = "command"  # target: {"argv": [str, ...]}
KIND_PREFECT = "prefect"  # target: for people; what Prefect must know is in the environment, as its agents set it
# target: {"flow_run_id": str, "entrypoint": str | null}, and "flow_run": {...}, "deployment": {...} as the server
# answered, if the agent has them; everything else is in the environment
KIND_PREFECT3 = "prefect3"
# target: the same, and {"argv": [str, ...]}, the command that is run in place of the engine once the code is there
KIND_PREFECT3_COMMAND = "prefect3-command"
# target: as of KIND_PREFECT3; calls the flow's hooks after its process was killed and the end was reported
KIND_PREFECT3_HOOKS = "prefect3-hooks"
KIND_PYTHON = "python"  # target: {"ref": "module:function" or "path/to/file.py:function"}

#: Modules of the child side that import Prefect 0.x or 1.x, and what its runs need, into a fork server.
PREFECT_PRELOAD = ("flowherd_runner.kinds.prefect1.warm",)
#: The same for Prefect 3.
PREFECT3_PRELOAD = ("flowherd_runner.kinds.prefect3.warm",)
