"""What spec.json says, checked once: the rest of the child side reads this value."""

from typing import Any, Dict, List, NamedTuple, Optional

from flowherd_runner.contract.files import MAX_SECONDS, SPEC_FILE, read_json
from flowherd_runner.contract.journal import MAX_JOURNAL_BYTES, MAX_LINE_BYTES
from flowherd_runner.errors import SpecError

_DEFAULT_GRACE_S = 10.0
_DEFAULT_LOG_LEVEL = 20  # logging.INFO
#: Room for notices and for one longest line; less is no journal.
_LEAST_JOURNAL_BYTES = 16 * 1024


class RunSpec(NamedTuple):
    """One flow run, as the agent asked for it; the fields are those of contract/files.py."""

    flow_run_id: str
    flow_run_name: str
    flow_name: str
    kind: str
    target: Dict[str, Any]
    parameters: Dict[str, Any]
    env: Dict[str, str]
    masked_env: List[str]
    working_dir: Optional[str]
    import_paths: List[str]
    user: Optional[str]
    run_time_s: Optional[float]
    open_files: Optional[int]
    cpu_time_s: Optional[int]
    grace_s: float
    max_line_bytes: int
    max_journal_bytes: int
    log_level: int
    cgroup: Optional[str]


def read_spec(directory: str) -> RunSpec:
    """The spec of the run in `directory`. Raises SpecError when there is none or it cannot be used, OSError."""
    try:
        value = read_json(directory, SPEC_FILE)
    except ValueError as error:
        raise SpecError(str(error)) from error
    if value is None:
        raise SpecError("there is no {} in {}".format(SPEC_FILE, directory))
    return parse_spec(value)


def parse_spec(value: Dict[str, Any]) -> RunSpec:
    """The spec that `value` describes; keys that are not known are passed over. Raises SpecError."""
    take = _Taker(value)
    limits = _Taker(take.value("limits", dict, {}))
    return RunSpec(
        flow_run_id=take.value("flow_run_id", str),
        flow_run_name=take.value("flow_run_name", str, ""),
        flow_name=take.value("flow_name", str, ""),
        kind=take.value("kind", str),
        target=take.value("target", dict),
        parameters=take.value("parameters", dict, {}),
        env=take.strings_by_name("env"),
        masked_env=take.strings("masked_env"),
        working_dir=take.value("working_dir", str, None),
        import_paths=take.strings("import_paths"),
        user=take.value("user", str, None),
        run_time_s=limits.number("run_time_s", None),
        open_files=limits.whole("open_files", None),
        cpu_time_s=limits.whole("cpu_time_s", None),
        grace_s=take.number("grace_s", _DEFAULT_GRACE_S),
        max_line_bytes=max(1, min(MAX_LINE_BYTES, take.whole("max_line_bytes", MAX_LINE_BYTES))),
        max_journal_bytes=max(_LEAST_JOURNAL_BYTES, take.whole("max_journal_bytes", MAX_JOURNAL_BYTES)),
        log_level=take.whole("log_level", _DEFAULT_LOG_LEVEL),
        cgroup=take.value("cgroup", str, None),
    )


_REQUIRED: Any = object()


class _Taker:
    """Values out of one JSON object, each with its type checked; null counts as not given."""

    def __init__(self, source: Dict[str, Any]) -> None:
        self._source = source

    def value(self, key: str, kind: type, default: Any = _REQUIRED) -> Any:
        found = self._source.get(key)
        if found is None:
            if default is _REQUIRED:
                raise SpecError("the spec has no {}".format(key))
            return default
        if not isinstance(found, kind) or (isinstance(found, bool) and kind is not bool):
            raise SpecError("{} in the spec is not of type {}: {!r}".format(key, kind.__name__, found))
        return found

    def number(self, key: str, default: Any) -> Any:
        """Seconds; as good as unlimited beyond MAX_SECONDS."""
        whole = isinstance(self._source.get(key), int)  # JSON has one kind of number
        found = self._not_negative(key, self.value(key, int if whole else float, default))
        return None if found is None else float(min(found, MAX_SECONDS))

    def whole(self, key: str, default: Any) -> Any:
        return self._not_negative(key, self.value(key, int, default))

    def strings(self, key: str) -> List[str]:
        found: List[str] = self.value(key, list, [])
        if not all(isinstance(item, str) for item in found):
            raise SpecError("{} in the spec is not a list of strings".format(key))
        return found

    def strings_by_name(self, key: str) -> Dict[str, str]:
        found: Dict[str, str] = self.value(key, dict, {})
        for name, item in found.items():
            if not isinstance(item, str) or not name or "=" in name or "\0" in name + item:
                raise SpecError("{} in the spec has no usable value for {!r}".format(key, name))
        return found

    @staticmethod
    def _not_negative(key: str, found: Any) -> Any:
        if found is not None and not 0 <= found < float("inf"):
            raise SpecError("{} in the spec is negative or no number: {!r}".format(key, found))
        return found
