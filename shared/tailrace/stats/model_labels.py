"""The value of the label `model`: a name that is configured, or `other`.

Callers choose the name of a model, and each value of a label is one more series: a caller could make any number.
"""

from collections.abc import Iterator

from tailrace.settings import Settings
from tailrace.upstreams import CurrentUpstreams, UpstreamConfig

OTHER = "other"


class ModelLabels:
    """The names in `TAILRACE_MODELS`, `TAILRACE_MODEL` and `tailrace.toml`, as it was read last; patterns are none."""

    def __init__(self, settings: Settings, upstreams: CurrentUpstreams) -> None:
        self._own = frozenset(_exact([settings.model, *settings.models.split(",")]))
        self._upstreams = upstreams
        self._read: object = None
        self._names = self._own

    def label(self, model: str) -> str:
        if self._upstreams.now is not self._read:
            self._read = self._upstreams.now
            self._names = self._own.union(*map(_names_of, self._upstreams.all))
        return model if model in self._names else OTHER


def _names_of(upstream: UpstreamConfig) -> Iterator[str]:
    return _exact([*upstream.models, *upstream.aliases])


def _exact(names: list[str]) -> Iterator[str]:
    return (name.strip() for name in names if name.strip() and "*" not in name)
