"""The text of all metrics of one program, in the format that the reader asks for; made at each request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from flowherd.metrics.families import FAMILIES, Family, Kind, Part
from flowherd.metrics.tally import Distribution, Sample, Tally

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric


def exposition(part: Part, tally: Tally, gauges: Iterable[Sample], accept: str = "") -> tuple[bytes, str]:
    """Return the text of all families that `part` has, with its media type.

    `gauges` are what is measured now, of any families; per-run families are left out if they have none. `accept` is
    the request's Accept header, by which Prometheus asks for OpenMetrics.
    """
    # Only here: its import costs the server 20 ms, and most are never asked.
    from prometheus_client import CollectorRegistry, ProcessCollector
    from prometheus_client.exposition import choose_encoder
    from prometheus_client.registry import Collector

    class Families(Collector):
        def collect(self) -> Iterator[Metric]:
            return _metrics(part, tally, gauges)

        def describe(self) -> Iterable[Metric]:
            return []

    registry = CollectorRegistry()
    registry.register(Families())
    ProcessCollector(registry=registry)
    encoder, media_type = choose_encoder(accept)
    return encoder(registry), media_type


def _metrics(part: Part, tally: Tally, gauges: Iterable[Sample]) -> Iterator[Metric]:
    samples: dict[str, list[Sample]] = {}
    for sample in (*tally.samples(), *gauges):
        samples.setdefault(sample.family, []).append(sample)
    for family in FAMILIES:
        if part not in family.at:
            continue
        if family.kind in (Kind.HISTOGRAM, Kind.SUMMARY):
            yield _distributed(family, tally.distributions(family.name))
        elif found := samples.get(family.name, _from_zero(family)):
            yield _plain(family, found)


def _from_zero(family: Family) -> list[Sample]:
    """Return the series of a counter without labels before anything happened."""
    return [Sample(family.name, 0.0)] if family.kind is Kind.COUNTER and not family.labels else []


def _plain(family: Family, samples: Iterable[Sample]) -> Metric:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    make = CounterMetricFamily if family.kind is Kind.COUNTER else GaugeMetricFamily
    metric = make(family.name, family.help, labels=list(family.labels))
    for sample in samples:
        metric.add_metric(list(sample.labels), sample.value)
    return metric


def _distributed(family: Family, found: dict[tuple[str, ...], Distribution]) -> Metric:
    from prometheus_client.core import HistogramMetricFamily, SummaryMetricFamily

    if family.kind is Kind.SUMMARY:
        summary = SummaryMetricFamily(family.name, family.help, labels=list(family.labels))
        for labels, one in found.items():
            summary.add_metric(list(labels), one.count, one.total)
        return summary
    histogram = HistogramMetricFamily(family.name, family.help, labels=list(family.labels))
    for labels, one in found.items():
        histogram.add_metric(list(labels), _cumulative(family, one), one.total)
    return histogram


def _cumulative(family: Family, one: Distribution) -> list[tuple[str, float]]:
    counted, buckets = 0, []
    for limit, count in zip((*map(str, family.buckets), "+Inf"), one.buckets, strict=True):
        counted += count
        buckets.append((limit, float(counted)))
    return buckets
