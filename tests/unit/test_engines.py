"""Engines: found in one registry, and what an interpreter needs for their runs."""

from __future__ import annotations

import pytest

from flowherd.config.catalogue import FILE_SUFFIX, SETTINGS
from flowherd.engines import registry
from flowherd.engines.base import Engine
from flowherd.engines.plain import PLAIN
from flowherd.engines.prefect1 import PREFECT1
from flowherd.engines.prefect3 import PREFECT3, PREFECT3_PACKAGE
from flowherd.engines.run_environment import environment_for_runs
from flowherd.engines.runtimes import RuntimeRule, to_warm, warnings_about_versions, warnings_at_start
from flowherd.errors import ConfigurationError, UnsupportedStorage
from flowherd.host.processes.interpreters import Interpreter
from flowherd.values import Runtime


def own_engine(name: str = "own", kind: str = "own-kind") -> Engine:
    return Engine(
        name=name,
        recognises=lambda storage: storage.get("type") == "Own",
        describe=lambda spec, *_: spec,
        kinds=frozenset({kind}),
    )


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Engine:
    """An engine of another package."""
    monkeypatch.setattr(registry, "ENGINES", [*registry.ENGINES])
    engine = own_engine()
    registry.register(engine)
    return engine


class TestRegistry:
    @pytest.mark.parametrize(
        ("storage", "engine"),
        [
            ("Command", PLAIN),
            ("Python", PLAIN),
            ("Prefect3", PREFECT3),
            ("Local", PREFECT1),
            ("SomethingNewer", PREFECT1),
        ],
    )
    def test_the_storage_of_a_flow_tells_its_engine(self, storage: str, engine: Engine) -> None:
        assert registry.engine_for({"type": storage}) is engine

    @pytest.mark.parametrize("storage", [{}, {"type": None}, {"type": "Docker"}, {"type": ["x"]}])
    def test_a_storage_that_no_engine_recognises_is_refused(self, storage: dict[str, object]) -> None:
        with pytest.raises(UnsupportedStorage, match="Unsupported Storage type"):
            registry.engine_for(storage)

    def test_a_registered_engine_is_asked_before_all_others(self, registered: Engine) -> None:
        assert registry.engine_for({"type": "Own"}) is registered
        assert registry.engine_named("own") is registered
        assert registry.package_of("own-kind") is None

    @pytest.mark.parametrize("taken", [own_engine("prefect1"), own_engine("other", "python")])
    def test_a_name_or_a_kind_that_is_taken_is_refused(self, registered: Engine, taken: Engine) -> None:
        with pytest.raises(ConfigurationError, match="is taken by"):
            registry.register(taken)

    def test_an_unknown_name_is_refused_with_those_that_are_known(self) -> None:
        with pytest.raises(ConfigurationError, match=r"'other'.*plain, prefect1, prefect3"):
            registry.engine_named("other")


class TestPackage:
    @pytest.mark.parametrize(("version", "fits"), [("3.1.2", True), ("2.20.1", False), ("1.4.1", False), (None, True)])
    def test_a_version_of_another_line_does_not_fit(self, version: str | None, fits: bool) -> None:
        found = Interpreter(program="/p", version=(3, 11, 0), has_package=True, package_version=version)
        assert PREFECT3_PACKAGE.is_in(found) is fits

    def test_what_failed_to_import_is_an_error_with_what_to_do(self) -> None:
        (module,) = PREFECT3_PACKAGE.preload
        missing = PREFECT3_PACKAGE.import_error("/p", {module: "ModuleNotFoundError: No module named 'prefect'"})
        broken = PREFECT3_PACKAGE.import_error("/p", {module: "ImportError: x"})
        assert str(missing).startswith("no module named prefect in /p; name a runtime")
        assert str(broken).startswith("cannot import prefect in /p: ImportError: x; name a runtime")
        assert PREFECT3_PACKAGE.import_error("/p", {"json": "ImportError: x"}) is None


class TestWarming:
    with_it = RuntimeRule(name="a", interpreter="/a", preload=("json",), engine_version="3.9.1")
    without = RuntimeRule(name="b", interpreter="/b", has_engine=False)

    def test_interpreters_with_the_package_import_it_and_the_agents_own_modules_are_imported_too(self) -> None:
        warmed = list(to_warm([self.with_it, self.without], ["csv"], PREFECT3_PACKAGE))
        rest = [Runtime("/a", (*PREFECT3_PACKAGE.preload, "json")), Runtime("/b")]
        assert warmed[0] == Runtime(preload=("csv",)) and warmed[-2:] == rest

    def test_a_plain_backend_needs_no_package(self) -> None:
        assert list(to_warm([self.with_it], [], None)) == [Runtime(), Runtime("/a", ("json",))]
        assert warnings_at_start(None, []) == warnings_about_versions(None, "3.1.0", [self.with_it]) == []

    def test_a_pool_without_any_prefect_3_is_worth_a_warning(self) -> None:
        assert ["Prefect 3" in words for words in warnings_at_start(PREFECT3_PACKAGE, [self.without])] == [True]
        assert warnings_at_start(PREFECT3_PACKAGE, [self.without, self.with_it]) == []

    def test_an_engine_of_a_later_minor_version_than_the_server_is_worth_a_warning(self) -> None:
        (words,) = warnings_about_versions(PREFECT3_PACKAGE, "3.8.5", [self.with_it, self.without])
        assert words.startswith("The runtime 'a' has Prefect 3.9.1, later than the server's 3.8.5")
        for same_or_later in ("3.9.0", "3.10.0", "4.0.0", ""):
            assert warnings_about_versions(PREFECT3_PACKAGE, same_or_later, [self.with_it]) == []


def test_runs_inherit_the_agents_environment_without_its_tokens_and_what_systemd_set() -> None:
    kept = {"PATH": "/bin", "A_TOKEN": "x", "PREFECT__CONTEXT__SECRETS__A_TOKEN": "x", "PREFECT__CLOUD__API": "x"}
    own = {"NOTIFY_SOCKET": "x", "PREFECT__CLOUD__AUTH_TOKEN": "x", "FLOWHERD__CLOUD__AGENT__AUTH_TOKEN": "x"}
    own |= {"PREFECT__CLOUD__API_KEY": "x", "FLOWHERD__CLOUD__CUSTOM_HEADERS": "X-Key=k"}
    assert environment_for_runs({**kept, **own}) == kept


def test_runs_inherit_no_variable_that_sets_a_secret_of_the_agent() -> None:
    of_runs = {"cloud.agent.env_vars", "runs.secrets"}  # which are there for the runs
    secret = [one for one in SETTINGS.values() if (one.secret or one.masked) and one.dotted not in of_runs]
    names = [one.variable("FLOWHERD__") + suffix for one in secret for suffix in ("", FILE_SUFFIX)]
    assert environment_for_runs(dict.fromkeys(names, "x")) == {}
