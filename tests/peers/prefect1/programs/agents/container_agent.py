"""Runs flow runs in containers: an agent as a user of Prefect 0.13 writes one, with the engine's own client."""

import os
import sys

import docker
from prefect.agent import Agent


class ContainerAgent(Agent):
    def __init__(self, image, base_url, **kwargs):
        super().__init__(**kwargs)
        self._image = image
        self._client = docker.APIClient(base_url=base_url, version="auto")
        self.failed_connections = 0
        self._client.ping()

    def heartbeat(self):
        try:
            if not self._client.ping():
                raise RuntimeError("Unexpected ping result")
            self.failed_connections = 0
        except Exception as exc:
            self.logger.warning("Failed heartbeat: {}".format(repr(exc)))
            self.failed_connections += 1
        if self.failed_connections >= 6:
            self.logger.error("Cannot reconnect to the engine. Agent is shutting down.")
            raise SystemExit()

    def populate_env_vars(self, flow_run):
        env_vars = {name: value for name, value in os.environ.items() if name.startswith(("PREFECT__", "HOME"))}
        env_vars.update(
            PREFECT__CONTEXT__FLOW_RUN_ID=flow_run.id,
            PREFECT__CONTEXT__FLOW_ID=flow_run.flow.id,
            PREFECT__CLOUD__USE_LOCAL_SECRETS="false",
            PREFECT__LOGGING__LOG_TO_CLOUD=str(self.log_to_cloud).lower(),
            PREFECT__ENGINE__FLOW_RUNNER__DEFAULT_CLASS="prefect.engine.cloud.CloudFlowRunner",
            PREFECT__ENGINE__TASK_RUNNER__DEFAULT_CLASS="prefect.engine.cloud.CloudTaskRunner",
        )
        env_vars.update(self.env_vars)
        return env_vars

    def deploy_flow(self, flow_run):
        self.logger.info("Deploying flow run {}".format(flow_run.id))
        for line in self._client.pull(self._image, stream=True, decode=True):
            self.logger.debug(line)
        container = self._client.create_container(
            self._image,
            command="prefect execute cloud-flow",
            environment=self.populate_env_vars(flow_run=flow_run),
            host_config=self._client.create_host_config(auto_remove=True),
        )
        self.logger.debug("Starting container with ID {}".format(container.get("Id")))
        self._client.start(container=container.get("Id"))
        return "Container ID: {}".format(container.get("Id"))


if __name__ == "__main__":
    image, base_url, label = sys.argv[1:]
    ContainerAgent(image, base_url, labels=[label, os.uname().nodename], max_polls=2).start()
