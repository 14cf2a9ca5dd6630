"""Runs flow runs on another host: an agent as a user of Prefect 0.13 writes one, with ssh."""

import os
import shlex
import subprocess
import sys

from prefect.agent import Agent


class SSHAgent(Agent):
    def __init__(self, host, options=(), prefect="prefect", **kwargs):
        super().__init__(**kwargs)
        self._host = host
        self._options = list(options)
        self._prefect = prefect
        self._check_connection()

    def _connect(self, script):
        """Have a shell of the other host read the script, so that no secret is in a command line."""
        done = subprocess.run(
            ["ssh", *self._options, self._host, "sh", "-s"],
            input=script,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            universal_newlines=True,
            timeout=30,
        )
        if done.returncode != 0:
            raise RuntimeError("ssh to {} failed: {}".format(self._host, done.stderr.strip()))
        return done.stdout.strip()

    def _check_connection(self):
        try:
            self._connect("true")
        except Exception as exc:
            self.logger.error("Cannot reach {}: {}".format(self._host, exc))

    def populate_env_vars(self, flow_run):
        env_vars = {name: value for name, value in os.environ.items() if name.startswith("PREFECT__")}
        env_vars.update(
            {
                "PREFECT__CLOUD__AGENT__LABELS": str(self.labels),
                "PREFECT__CONTEXT__FLOW_RUN_ID": flow_run.id,
                "PREFECT__CONTEXT__FLOW_ID": flow_run.flow.id,
                "PREFECT__CLOUD__USE_LOCAL_SECRETS": "false",
                "PREFECT__LOGGING__LOG_TO_CLOUD": str(self.log_to_cloud).lower(),
                "PREFECT__ENGINE__FLOW_RUNNER__DEFAULT_CLASS": "prefect.engine.cloud.CloudFlowRunner",
                "PREFECT__ENGINE__TASK_RUNNER__DEFAULT_CLASS": "prefect.engine.cloud.CloudTaskRunner",
            }
        )
        env_vars.update(self.env_vars)
        return {name: value for name, value in env_vars.items() if value is not None}

    def deploy_flow(self, flow_run):
        self.logger.info("Deploying flow run {}".format(flow_run.id))
        if flow_run.flow.storage["type"] != "Local":
            self.logger.error("Storage for flow run {} is not a supported type.".format(flow_run.id))
            raise ValueError("Unsupported Storage type")
        lines = [
            "export {}={}".format(name, shlex.quote(value))
            for name, value in sorted(self.populate_env_vars(flow_run).items())
        ]
        lines.append("nohup {} execute cloud-flow > /dev/null 2>&1 < /dev/null &".format(shlex.quote(self._prefect)))
        lines.append("echo $!")
        pid = self._connect("\n".join(lines) + "\n")
        self.logger.debug("Submitted flow run {} to {}".format(flow_run.id, self._host))
        return "Host: {} PID: {}".format(self._host, pid)


if __name__ == "__main__":
    host, prefect, label = sys.argv[1:4]
    SSHAgent(host, options=sys.argv[4:], prefect=prefect, labels=[label, os.uname().nodename], max_polls=2).start()
