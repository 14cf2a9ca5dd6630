"""The files for Prometheus and Grafana name only metrics that there are."""

from __future__ import annotations

import json
import re
from typing import Any

from flowherd.metrics.families import FAMILIES, PROCESS_FAMILIES, series_names
from tests.support.prometheus import CONF, RULES, names_in

KNOWN = {name for family in FAMILIES for name in series_names(family)} | {*PROCESS_FAMILIES}


def panels() -> list[dict[str, Any]]:
    return list(json.loads((CONF / "grafana" / "flowherd.json").read_text(encoding="utf-8"))["panels"])


def test_the_alerts_name_only_metrics_that_there_are() -> None:
    expressions = re.findall(r"^ +expr: (.*)$", RULES.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(expressions) > 10
    assert {name for one in expressions for name in names_in(one)} - KNOWN == set()


def test_the_dashboard_names_only_metrics_that_there_are_and_explains_each_panel() -> None:
    targets = [target["expr"] for panel in panels() for target in panel.get("targets", ())]
    assert {name for one in targets for name in names_in(one)} - KNOWN == set()
    assert [panel["title"] for panel in panels() if panel["type"] != "row" and not panel["description"]] == []


def test_panels_of_the_dashboard_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells, panel["title"]
        taken |= cells


def test_each_alert_is_in_the_how_to() -> None:
    names = re.findall(r"- alert: (\w+)", RULES.read_text(encoding="utf-8"))
    text = (CONF.parent / "docs" / "how-to" / "monitor-with-prometheus.md").read_text(encoding="utf-8")
    assert [name for name in names if f"`{name}`" not in text] == []
