"""Gives flow runs of this host variables of their own: an agent as a user of Prefect 0.13 writes one."""

import os
import sys

from prefect.agent.local import LocalAgent


class TeamAgent(LocalAgent):
    def populate_env_vars(self, flow_run):
        env_vars = super().populate_env_vars(flow_run)
        assert env_vars["PREFECT__CONTEXT__FLOW_RUN_ID"] == flow_run.id
        env_vars["WHERE"] = "a process for {}".format(flow_run.flow.name)
        env_vars.pop("NOT_FOR_RUNS")
        return env_vars

    def heartbeat(self):
        super().heartbeat()
        self.logger.debug("{} flow runs are running".format(len(self.processes)))


if __name__ == "__main__":
    variables = {"HOME": os.environ["HOME"], "NOT_FOR_RUNS": "1"}
    TeamAgent(labels=sys.argv[1:], env_vars=variables, max_polls=2).start()
