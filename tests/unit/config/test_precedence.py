"""Where the value of a setting comes from: the strongest source wins, and every value has its origin."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowherd.config import LoadedSettings, Source, load_settings
from flowherd.config.catalogue import SETTINGS, value_of
from flowherd.config.loading import variables_of

NAME = "cloud.agent.name"
PLACES = ("argument", "flowherd variable", "prefect variable", "own file", "prefect file")


@pytest.fixture
def person(tmp_path: Path) -> Person:
    return Person(tmp_path)


class Person:
    """A person's HOME, with the settings that they have put into files and variables."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environ = {"HOME": str(home)}
        self.overrides: dict[str, object] = {}
        self.own_file = home / ".flowherd" / "config.toml"
        self.prefect_file = home / ".prefect" / "config.toml"

    def write(self, path: Path, text: str, mode: int = 0o600) -> None:
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
        path.chmod(mode)

    def put(self, place: str, name: str) -> None:
        """Set the agent's name in one place."""
        if place == "argument":
            self.overrides[NAME] = name
        elif place == "flowherd variable":
            self.environ["FLOWHERD__CLOUD__AGENT__NAME"] = name
        elif place == "prefect variable":
            self.environ["PREFECT__CLOUD__AGENT__NAME"] = name
        else:
            path = self.own_file if place == "own file" else self.prefect_file
            self.write(path, f"[cloud.agent]\nname = {json.dumps(name)}\n")

    def load(self) -> LoadedSettings:
        return load_settings(self.overrides, environ=self.environ, argument_names={NAME: "--name"})


@pytest.mark.parametrize("places", [PLACES[first:] for first in range(len(PLACES))], ids=lambda places: places[0])
def test_the_strongest_place_wins(person: Person, places: tuple[str, ...]) -> None:
    for place in places:
        person.put(place, place)
    assert person.load().settings.cloud.agent.name == places[0]


@pytest.mark.parametrize(
    ("place", "source", "words"),
    [
        ("argument", Source.ARGUMENT, "--name"),
        ("flowherd variable", Source.ENVIRONMENT, "FLOWHERD__CLOUD__AGENT__NAME"),
        ("prefect variable", Source.ENVIRONMENT, "PREFECT__CLOUD__AGENT__NAME"),
        ("own file", Source.FILE, ".flowherd/config.toml"),
        ("prefect file", Source.PREFECT_FILE, ".prefect/config.toml"),
    ],
)
def test_a_value_has_its_origin(person: Person, place: str, source: Source, words: str) -> None:
    person.put(place, "somebody")
    origin = person.load().origins[NAME]
    assert origin.source is source
    assert words in str(origin)


def test_a_setting_that_is_not_set_is_the_default_and_says_so(person: Person) -> None:
    loaded = person.load()
    assert loaded.settings.cloud.agent.name == "agent"
    assert {str(origin) for origin in loaded.origins.values()} == {"default"}
    assert set(loaded.origins) == set(SETTINGS)


def test_sources_are_combined_setting_by_setting(person: Person) -> None:
    person.write(person.prefect_file, "[cloud]\nrequest_timeout = 3\n[cloud.agent]\nname = 'p'\nlevel = 'DEBUG'\n")
    person.write(person.own_file, "[cloud.agent]\nname = 'o'\n")
    person.environ["FLOWHERD__AGENT__LIMIT"] = "7"
    settings = person.load().settings
    assert settings.cloud.agent.name == "o"
    assert settings.cloud.agent.level == "DEBUG"
    assert settings.cloud.request_timeout == 3.0
    assert settings.agent.limit == 7


def test_a_mapping_of_a_stronger_source_stands_alone(person: Person) -> None:
    """Environment variables for runs are not merged from several sources: they all come from the one shown."""
    person.write(person.own_file, "[cloud.agent.env_vars]\nA = '1'\nB = '2'\n")
    assert person.load().settings.cloud.agent.env_vars == {"A": "1", "B": "2"}
    person.environ["FLOWHERD__CLOUD__AGENT__ENV_VARS"] = "A=3"
    assert person.load().settings.cloud.agent.env_vars == {"A": "3"}


def test_an_argument_that_is_none_counts_as_not_given(person: Person) -> None:
    person.put("flowherd variable", "from-variable")
    person.overrides[NAME] = None
    assert person.load().settings.cloud.agent.name == "from-variable"


def test_false_in_the_environment_is_false(person: Person) -> None:
    person.environ["FLOWHERD__AGENT__HOSTNAME_LABEL"] = "false"
    person.environ["PREFECT__CLOUD__AGENT__NO_CLOUD_LOGS"] = "true"
    settings = person.load().settings
    assert settings.agent.hostname_label is False
    assert settings.cloud.agent.no_cloud_logs is True


def test_an_empty_optional_value_is_not_set(person: Person) -> None:
    person.write(person.own_file, "[agent]\nlimit = 3\n")
    person.environ["FLOWHERD__AGENT__LIMIT"] = ""
    assert person.load().settings.agent.limit is None


@pytest.mark.parametrize("text", ["a,b c", " a , b c ", '["a", "b c"]', "['a', 'b c']", "('a', 'b c')"], ids=range(5))
def test_a_list_is_json_or_a_python_literal_or_separated_by_commas(person: Person, text: str) -> None:
    person.environ["PREFECT__CLOUD__AGENT__LABELS"] = text
    assert person.load().settings.cloud.agent.labels == ["a", "b c"]


@pytest.mark.parametrize("text", ['{"A": "1", "B": "x=y"}', "{'A': 1, 'B': 'x=y'}", "A=1,B=x=y"], ids=range(3))
def test_pairs_are_json_or_a_python_literal_or_separated_by_commas(person: Person, text: str) -> None:
    person.environ["PREFECT__CLOUD__AGENT__ENV_VARS"] = text
    assert person.load().settings.cloud.agent.env_vars == {"A": "1", "B": "x=y"}


@given(st.dictionaries(st.text(min_size=1), st.text()))
def test_any_pairs_can_be_written_as_json(pairs: dict[str, str]) -> None:
    environ = {"HOME": "/nowhere", "FLOWHERD__CLOUD__AGENT__ENV_VARS": json.dumps(pairs)}
    assert load_settings(environ=environ).settings.cloud.agent.env_vars == pairs


@given(st.lists(st.text()))
def test_any_list_can_be_written_as_json_and_as_a_python_literal(labels: list[str]) -> None:
    for text in (json.dumps(labels), repr(labels)):
        environ = {"HOME": "/nowhere", "FLOWHERD__CLOUD__AGENT__LABELS": text}
        assert load_settings(environ=environ).settings.cloud.agent.labels == labels


def test_prefects_file_can_be_read_as_it_is(person: Person) -> None:
    """Lists as text, references, unknown sections and unknown keys: none of these is an error."""
    person.write(
        person.prefect_file,
        """
        debug = false
        home_dir = "~/.prefect"
        [server]
        host = "http://localhost"
        [server.database]
        port = "5432"
        [logging]
        level = "INFO"
        [cloud]
        api = "${cloud.endpoint}/${env}"
        endpoint = "http://prefect.example:4200"
        request_timeout = "${timeouts.short}"
        graphql = "${cloud.api}/graphql"
        [timeouts]
        short = 7
        [cloud.agent]
        name = "${nowhere.to.be.found}"
        labels = "[]"
        [tasks.defaults]
        max_retries = 0
        """,
    )
    person.environ["env"] = "dev"
    loaded = person.load()
    assert loaded.settings.cloud.api == "http://prefect.example:4200/dev"
    assert loaded.settings.cloud.request_timeout == 7.0
    assert loaded.settings.cloud.agent.labels == []
    assert loaded.settings.cloud.agent.name == "agent"
    assert loaded.origins["cloud.agent.name"].source is Source.DEFAULT


def test_a_circular_reference_counts_as_not_set(person: Person) -> None:
    person.write(person.prefect_file, "a = '${b}'\nb = '${a}'\n[cloud.agent]\nname = '${a}'\n")
    assert person.load().settings.cloud.agent.name == "agent"


def test_prefects_variables_move_its_file(person: Person) -> None:
    elsewhere = person.home / "elsewhere"
    person.write(elsewhere / "config.toml", "[cloud.agent]\nname = 'moved'\n")
    person.environ["PREFECT__HOME_DIR"] = str(elsewhere)
    assert person.load().settings.cloud.agent.name == "moved"
    person.environ["PREFECT__USER_CONFIG_PATH"] = str(elsewhere / "other.toml")
    assert person.load().settings.cloud.agent.name == "agent"


def test_flowherd_home_moves_everything(person: Person) -> None:
    person.environ["FLOWHERD_HOME"] = str(person.home / "moved")
    person.write(person.home / "moved" / "config.toml", "[cloud.agent]\nname = 'Web 1'\n")
    paths = person.load().paths
    assert paths.home == person.home / "moved"
    assert paths.state_dir == paths.home / "agents" / "web-1"
    assert paths.data_dir == paths.home / "server"
    assert paths.server_file == paths.home / "server.json"


def test_without_flowherd_home_the_home_is_in_that_of_the_user(person: Person) -> None:
    assert person.load().paths.home == person.home / ".flowherd"


def test_directories_can_be_set(person: Person) -> None:
    person.environ |= {"FLOWHERD__AGENT__STATE_DIR": "~/state", "FLOWHERD__SERVER__DATA_DIR": "/srv/data"}
    paths = person.load().paths
    assert paths.state_dir == person.home / "state"
    assert paths.data_dir == Path("/srv/data")


@given(st.text())
def test_every_agent_name_gives_a_directory_in_the_agents_directory(name: str) -> None:
    loaded = load_settings({NAME: name + "x"}, environ={"HOME": "/nowhere"})
    assert loaded.paths.state_dir.parent == loaded.paths.agents_dir
    assert loaded.paths.state_dir.name not in ("", ".", "..")


def test_every_setting_can_be_set_by_either_prefix() -> None:
    """Each setting has a variable of its own with each prefix."""
    names = [
        setting.variable(prefix)
        for prefix, setting in itertools.product(("FLOWHERD__", "PREFECT__"), SETTINGS.values())
    ]
    assert len(set(names)) == 2 * len(SETTINGS)
    for prefix in ("FLOWHERD__", "PREFECT__"):
        loaded = load_settings(environ={"HOME": "/nowhere", SETTINGS["runs.limits.memory_bytes"].variable(prefix): "5"})
        assert value_of(loaded.settings, "runs.limits.memory_bytes") == 5


def test_the_api_key_of_prefect_1_is_the_agents_token_unless_a_variable_names_one(person: Person) -> None:
    token = "cloud.agent.auth_token"
    person.write(person.own_file, '[cloud.agent]\nauth_token = "of-the-file"\n')
    person.environ["PREFECT__CLOUD__API_KEY"] = "the-key"
    loaded = person.load()
    assert value_of(loaded.settings, token) == "the-key"
    assert loaded.origins[token].source is Source.ENVIRONMENT and "PREFECT__CLOUD__API_KEY" in str(
        loaded.origins[token]
    )
    assert loaded.masked(token) != "the-key" and loaded.warnings == ()
    person.environ["PREFECT__CLOUD__AGENT__AUTH_TOKEN"] = "the-token"
    assert value_of(person.load().settings, token) == "the-token"


@pytest.mark.parametrize("dotted", ["home", "cloud.agent.name", "cloud.agent.auth_token", "prefect3.ssl_cert_file"])
def test_the_variables_of_a_setting_are_all_that_set_it_the_strongest_first(person: Person, dotted: str) -> None:
    names = variables_of(dotted)
    for name in names:
        secret = person.home / f"{name}.secret"
        person.write(secret, f"value-of-{name}")
        person.environ[name] = str(secret) if name.endswith("TOKEN_FILE") else f"value-of-{name}"
    for name in names:
        assert str(value_of(person.load().settings, dotted)).endswith(f"value-of-{name}")
        del person.environ[name]
    assert person.load().origins[dotted].source is Source.DEFAULT
