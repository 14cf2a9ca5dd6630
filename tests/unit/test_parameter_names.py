"""Which parameters a flow takes, as far as that is known, and what is said about one that it does not take."""

from __future__ import annotations

import pytest

from flowherd.engines.base import AgentDefaults
from flowherd.engines.plan import plan
from flowherd.parameter_names import complaints, parameter_names
from flowherd.states import RunState
from flowherd.values import Flow, FlowRun

PREFECTS = {"type": "Local", "flows": {"f": "/f"}}


@pytest.mark.parametrize(
    ("storage", "registered", "names"),
    [
        (PREFECTS, [{"name": "topping", "required": True}, {"name": "size"}], ("topping", "size")),
        (PREFECTS, [], ()),
        (PREFECTS, None, None),
        (PREFECTS, [{"name": 1}], None),
        ({"type": "Command", "argv": ["x"]}, [{"name": "a"}], None),
        ({"type": "Python", "ref": "m:f"}, [{"name": "a"}], None),
        ({"type": "Python", "ref": "f.py:f", "parameters": ["a"]}, [{"name": "b"}], ("a",)),
        ({"type": "Python", "ref": "f.py:f", "parameters": "a"}, [], None),
        ({"type": "Own"}, [{"name": "a"}], None),
        (None, [], None),
    ],
)
def test_the_list_is_known_for_prefects_flows_and_for_functions_with_a_signature(
    storage: object, registered: object, names: tuple[str, ...] | None
) -> None:
    assert parameter_names(storage, registered) == names


def test_a_complaint_names_the_parameter_that_was_meant_or_all_of_them() -> None:
    assert complaints(["toping", "size"], ["topping", "size"]) == [
        "the flow has no parameter 'toping'; did you mean 'topping'?"
    ]
    assert complaints(["x"], ["topping", "size"]) == ["the flow has no parameter 'x'; it has size, topping"]
    assert complaints(["x"], []) == ["the flow has no parameter 'x'; it has none"]
    assert complaints(["x"], [f"long_{n}" for n in range(99)])[0].endswith(", ...")
    assert complaints(["x"], None) == []


def test_a_run_made_at_the_api_with_such_a_parameter_is_started_with_a_warning() -> None:
    flow = Flow(id="flow", name="f", storage={"type": "Python", "ref": "m:f"}, parameter_names=("topping",))
    run = FlowRun(
        id="id",
        name="run",
        version=1,
        state=RunState.SCHEDULED,
        serialized_state={},
        flow=flow,
        parameters={"toping": "ham", "topping": "cheese"},
    )
    assert plan(run, AgentDefaults(), "claim").agent.warnings == (
        "the flow has no parameter 'toping'; did you mean 'topping'?",
    )
