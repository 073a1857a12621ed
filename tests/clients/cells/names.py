"""The name of a model for each cell, by which the upstream's record of its calls is found."""

from clients.table import Client


def model_of(client: Client, case: str) -> str:
    return f"{case}.{client.name.replace(' ', '-')}"
