"""The name of a model for each cell, by which the upstream's record of its calls is found."""

import re
from collections.abc import Iterable


def model_of(client: str, case: str) -> str:
    """A program may add `-ANYTHING`, as that for Node does."""
    return f"{case}.{slug(client)}"


def slug(client: str) -> str:
    """The name of a client in that of a model."""
    return re.sub(r"[^A-Za-z-]+", "-", client).strip("-")


def client_of(model: str, clients: Iterable[str]) -> str | None:
    """The client that uses a model: the one with the longest name that fits."""
    rest = model.partition(".")[2]
    fitting = [client for client in clients if rest == slug(client) or rest.startswith(slug(client) + "-")]
    return max(fitting, key=lambda client: len(slug(client)), default=None)
