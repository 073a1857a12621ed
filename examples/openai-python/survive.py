"""Ask a question and print the answer. Kill this program in the middle and start it again: the answer goes on."""

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8080/v1"),
    api_key=os.environ.get("OPENAI_API_KEY", "none"),
)
PLACE = Path("answer.json")  # where this program is in the answer


def events(place: dict[str, Any]) -> Iterable[Any]:
    """The events of a new answer, or those of the stored one behind the last number."""
    if place["id"]:
        return client.responses.retrieve(place["id"], stream=True, starting_after=place["number"])
    question = " ".join(sys.argv[1:]) or "What survives?"
    model = os.environ.get("MODEL", "demo")
    return client.responses.create(model=model, input=question, background=True, stream=True)


def save(place: dict[str, Any]) -> None:
    """Replace the file at once, so that number and text in it belong together."""
    new = PLACE.with_suffix(".new")
    new.write_text(json.dumps(place))
    new.replace(PLACE)


def main() -> None:
    place = json.loads(PLACE.read_text()) if PLACE.exists() else {"id": None, "number": -1, "text": ""}
    print(place["text"], end="", flush=True)
    for event in events(place):
        if event.type == "response.created":
            place["id"] = event.response.id
        if event.type == "response.output_text.delta":
            print(event.delta, end="", flush=True)
            place["text"] += event.delta
        place["number"] = event.sequence_number
        save(place)
    PLACE.unlink()
    print()


if __name__ == "__main__":
    main()
