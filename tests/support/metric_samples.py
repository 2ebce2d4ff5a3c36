"""Parses metrics as Prometheus does."""

from prometheus_client.parser import text_string_to_metric_families

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(text: str) -> Samples:
    """Every sample of an exposition, by name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text) for sample in family.samples
    }  # fmt: skip


def of(found: Samples, name: str, **labels: str) -> float:
    """The sample of that name and exactly these labels; 0 without one."""
    return found.get((name, frozenset(labels.items())), 0.0)


def names(found: Samples) -> set[str]:
    """The names of all samples."""
    return {name for name, _ in found}
