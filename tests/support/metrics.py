"""The metrics of a gateway under test, as its management API tells them."""

from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

type Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


def samples_of(text: str) -> list[Sample]:
    """Return all samples of a text of Prometheus's format."""
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def by_name(text: str) -> Samples:
    """Return the values of all samples, by their names (`sample`)."""
    return {sample(each.name, **each.labels): each.value for each in samples_of(text)}


def sample(name: str, /, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    """Return the name of a sample; the project's prefix may be omitted."""
    return f"llm_proxy_{name.removeprefix('llm_proxy_')}", frozenset(labels.items())
