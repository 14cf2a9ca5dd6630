"""Flows that look at their surroundings: context, configuration, secrets, logging, storage, other flows."""

from __future__ import annotations

import atexit
import logging
import os
import sys

import prefect
from flows.versions import PREFECT_1, Local, logger, scratch, with_labels
from prefect import Flow, Parameter, task
from prefect.tasks.secrets import EnvVarSecret, PrefectSecret


@task
def log_value(found):
    logger().info("got %r", found)
    return found


def context():
    @task
    def look():
        found = prefect.context
        logger().info("of the run: %s", found.get("of_the_run"))
        logger().info("flow %s, run name %s", found.get("flow_name"), found.get("flow_run_name"))
        logger().info("parameters %s", found.get("parameters"))
        logger().info("task %s of %s, count %s", found.get("task_name"), found.get("task_slug"), found.task_run_count)
        logger().info("keys %s", sorted(found.keys()))
        logger().info("scheduled %s, today %s", bool(found.get("scheduled_start_time")), len(found.get("today")))

    with Flow("context") as flow:
        look(upstream_tasks=[Parameter("p", default=1)])
    return flow


def configuration():
    """Log what a run can see of how it was started, except what names the agent."""

    @task
    def look():
        config = prefect.config
        logger().info("backend %s, logging %s", config.get("backend"), config.logging.level)
        logger().info("secrets %s", config.cloud.use_local_secrets)
        logger().info("flow runner %s", config.engine.flow_runner.default_class)
        logger().info("task runner %s", config.engine.task_runner.default_class)
        logger().info("checkpointing %s", prefect.context.get("checkpointing"))
        logger().info("of the agent %s", os.environ.get("PEERS_OF_THE_AGENT"))
        logger().info("path starts %s", sys.path[0])
        logger().info("interpreter %s", sys.version_info[:3])
        logger().info("directory %s", os.getcwd())

    with Flow("configuration") as flow:
        look()
    return flow


def secrets():
    with Flow("secrets") as flow:
        log_value(PrefectSecret("PEERS_SECRET"))
        log_value(EnvVarSecret("PEERS_OF_THE_AGENT"))
    return flow


def leaves_marks():
    """Change everything within reach in its own process."""

    @task
    def mark():
        os.environ["PEERS_MARK"] = "left"
        prefect.context["peers_mark"] = "left"
        prefect.config["peers_mark"] = "left"
        sys.modules["peers_mark"] = sys
        logging.getLogger("prefect").addFilter(lambda record: "secret of another run" not in record.getMessage())
        os.chdir("/")
        os.umask(0o077)
        logger().info("marked")

    with Flow("leaves-marks") as flow:
        mark()
    return flow


def finds_no_marks():
    @task
    def look():
        logger().info("environment %s", os.environ.get("PEERS_MARK"))
        logger().info("context %s", prefect.context.get("peers_mark"))
        logger().info("configuration %s", prefect.config.get("peers_mark"))
        logger().info("module %s", "peers_mark" in sys.modules)
        logger().info("secret of another run")

    with Flow("finds-no-marks") as flow:
        look()
    return flow


def logging_of_all_kinds():
    @task
    def log():
        own = logger()
        own.debug("debug")
        own.info("info with %s and %d%%", "arguments", 5)
        own.warning("warning\nof two lines")
        own.error("error with ünïcode \u2603")
        own.critical("critical")
        try:
            1 / 0
        except ZeroDivisionError:
            own.exception("an exception")
        own.info("")
        own.info({"a": "dictionary"})
        own.info("with fields", extra={"order": 7, "items": ["a", None], "by": {"name": "ünï"}})
        prefect.context.get("logger").getChild("child").info("by a child")
        logging.getLogger("prefect.mine").info("by a logger of my own below prefect")
        logging.getLogger("elsewhere").warning("by a logger that is not asked for")
        logging.getLogger("peers.extra").info("by an extra logger")

    with Flow("logging-of-all-kinds") as flow:
        log()
    return flow


def log_stdout():
    @task(log_stdout=True)
    def printing():
        print("printed and logged")
        print("twice", "with", "parts")

    @task
    def printing_only():
        print("printed and not logged")

    with Flow("log-stdout") as flow:
        printing(), printing_only()
    return flow


def many_lines():
    @task
    def talk():
        for number in range(5000):
            logger().info("line %d", number)

    with Flow("many-lines") as flow:
        talk()
    return flow


def at_exit():
    """Register a function for the end of the process."""

    @task
    def register():
        path = scratch("at-exit")
        atexit.register(lambda: open(path, "w").close())

    with Flow("at-exit") as flow:
        register()
    return flow


def not_there():
    """Its file is removed after its registration."""
    with Flow("not-there") as flow:
        log_value(1)
    return flow


SCRIPT = """
from prefect import Flow, task
import prefect

@task
def told_by_a_script():
    prefect.context.get("logger").info("from a script called %s", __name__)

with Flow("script") as flow:
    told_by_a_script()

with Flow("another in the same script") as another:
    told_by_a_script()
"""


def script():
    """Its storage is the file of its source."""
    path = os.path.join(os.environ["PEERS_SCRATCH"], "script.py")
    with open(path, "w") as file:
        file.write(SCRIPT)
    flow = prefect.utilities.storage.extract_flow_from_file(path, **({"flow_name": "script"} if PREFECT_1 else {}))
    flow.storage = Local(path=path, stored_as_script=True)
    return flow


def child_of(agent):
    @task
    def grow(x):
        logger().info("child got %s", x)
        return x + 1

    def make():
        with Flow("child-of-" + agent) as flow:
            grow(Parameter("x", default=0))
        return with_labels(flow, [agent])

    make.__name__ = "child_of_" + agent
    return make


def parent():
    """Start another flow and wait for its end."""
    with Flow("parent") as flow:
        child = Parameter("child")
        if PREFECT_1:
            from prefect.tasks.prefect import StartFlowRun, create_flow_run, get_task_run_result, wait_for_flow_run

            first = create_flow_run(flow_name=child, project_name="peers", parameters={"x": 1})
            wait_for_flow_run(first, raise_final_state=True)
            log_value(get_task_run_result(first, "grow-1"))
            StartFlowRun(project_name="peers", wait=True, parameters={"x": 2})(flow_name=child)
        else:
            from prefect.tasks.prefect.flow_run import FlowRunTask

            FlowRunTask(project_name="peers", wait=True, parameters={"x": 2})(flow_name=child)
    return flow


FLOWS = [
    context,
    configuration,
    secrets,
    leaves_marks,
    finds_no_marks,
    logging_of_all_kinds,
    log_stdout,
    many_lines,
    at_exit,
    not_there,
    script,
    child_of("theirs"),
    child_of("ours"),
    parent,
]

if PREFECT_1:
    from prefect.run_configs import LocalRun
    from prefect.storage import Git, Module

    def local_run():
        """Its run config names a directory and variables."""

        @task
        def look():
            logger().info("directory %s", os.getcwd())
            logger().info("variable %s", os.environ.get("PEERS_OF_THE_RUN"))
            logger().info("token %s", prefect.context.get("secrets", {}).get("TOKEN"))

        with Flow("local-run") as flow:
            look()
        flow.run_config = LocalRun(env={"PEERS_OF_THE_RUN": "of the flow"}, working_dir=os.environ["PEERS_SCRATCH"])
        return flow

    def no_such_directory():
        with Flow("no-such-directory") as flow:
            log_value(1)
        flow.run_config = LocalRun(working_dir=os.path.join(os.environ["PEERS_SCRATCH"], "nowhere"))
        return flow

    def docker_run():
        """It is for another kind of agent than the local one."""
        from prefect.run_configs import DockerRun

        with Flow("docker-run") as flow:
            log_value(1)
        flow.run_config = DockerRun()
        return flow

    def module():
        """Its storage is a module on the agent's import path."""
        import peers_module

        flow = peers_module.flow
        flow.storage = Module("peers_module")
        return flow

    def git():
        """Its storage is a git repository."""
        with Flow("script") as flow:
            log_value(1)
        flow.name = "git"
        flow.storage = Git(flow_path="flow.py", flow_name="git", git_clone_url_secret_name="PEERS_REPOSITORY")
        return flow

    def run_names():
        @task(task_run_name="named {x}")
        def named(x):
            logger().info("named")

        @task
        def rename():
            prefect.Client().set_flow_run_name(prefect.context.flow_run_id, "renamed")

        with Flow("run-names") as flow:
            named.map([1, 2])
            rename()
        return flow

    def artifacts():
        from prefect.artifacts import create_link, create_markdown, update_link

        @task
        def make():
            made = create_link("https://example.com")
            update_link(made, "https://example.org")
            create_markdown("# done")

        with Flow("artifacts") as flow:
            make()
        return flow

    FLOWS += [local_run, no_such_directory, docker_run, module, git, run_names, artifacts]
