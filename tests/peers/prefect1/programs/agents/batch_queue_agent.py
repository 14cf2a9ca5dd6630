"""Puts flow runs into this host's batch queue: an agent as a user of Prefect 0.13 writes one, with task-spooler."""

import os
import subprocess
import sys

from prefect.agent import Agent


class BatchQueueAgent(Agent):
    def __init__(self, most_jobs=4, prefect="prefect", **kwargs):
        super().__init__(**kwargs)
        self._queue = "tsp"
        self._most_jobs = most_jobs
        self._prefect = prefect
        self.jobs = {}

    def _submit(self, *arguments, **kwargs):
        return subprocess.check_output([self._queue, *arguments], universal_newlines=True, **kwargs).strip()

    def unfinished(self):
        lines = self._submit().splitlines()[1:]
        return [line for line in lines if line.split()[1] in ("queued", "running")]

    def query_flow_runs(self):
        if len(self.unfinished()) >= self._most_jobs:
            self.logger.info("The queue is full, so no flow runs are taken")
            return []
        return super().query_flow_runs()

    def heartbeat(self):
        for job in list(self.jobs):
            if self._submit("-s", job) == "finished":
                self.logger.debug("Job {} of flow run {} has finished".format(job, self.jobs.pop(job)))

    def deploy_flow(self, flow_run):
        self.logger.info("Deploying flow run {}".format(flow_run.id))
        env = dict(
            os.environ,
            PREFECT__CONTEXT__FLOW_RUN_ID=flow_run.id,
            PREFECT__CONTEXT__FLOW_ID=flow_run["flow"]["id"],
            PREFECT__CLOUD__USE_LOCAL_SECRETS="false",
            PREFECT__LOGGING__LOG_TO_CLOUD=str(self.log_to_cloud).lower(),
            PREFECT__ENGINE__FLOW_RUNNER__DEFAULT_CLASS="prefect.engine.cloud.CloudFlowRunner",
            PREFECT__ENGINE__TASK_RUNNER__DEFAULT_CLASS="prefect.engine.cloud.CloudTaskRunner",
            **self.env_vars,
        )
        job = self._submit("-n", "-L", flow_run.id, self._prefect, "execute", "cloud-flow", env=env)
        self.jobs[job] = flow_run.id
        return "Job: {}".format(job)

    def on_shutdown(self):
        self.logger.info("{} jobs are left in the queue".format(len(self.jobs)))


if __name__ == "__main__":
    prefect, label = sys.argv[1:]
    BatchQueueAgent(prefect=prefect, labels=[label, os.uname().nodename], max_polls=2).start()
