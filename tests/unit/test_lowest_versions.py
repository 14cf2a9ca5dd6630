"""The lowest versions that setup.py permits are pins that pip understands."""

from __future__ import annotations

import pytest

from tests.lowest_versions import lowest, requirements


def test_each_requirement_has_a_lowest_version() -> None:
    pins = [lowest(requirement) for requirement in requirements()]
    assert len(pins) > 10
    assert [pin for pin in pins if "==" not in pin] == ["tzdata"]  # data, of which any version will do


@pytest.mark.parametrize(
    ("requirement", "pin"),
    [("rich>=13", "rich==13"), ("tomli>=2.0; python_version < '3.11'", "tomli==2.0; python_version < '3.11'")],
)
def test_a_marker_stays(requirement: str, pin: str) -> None:
    assert lowest(requirement) == pin


@pytest.mark.parametrize("requirement", ["rich~=13.0", "rich>13", "rich>=13,<15", "rich[all]>=13"])
def test_a_requirement_without_a_plain_lower_bound_is_refused(requirement: str) -> None:
    with pytest.raises(ValueError, match="lowest"):
        lowest(requirement)
