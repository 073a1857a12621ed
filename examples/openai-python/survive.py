"""Ask a question and print the answer. Kill this program in the middle and start it again: the answer continues."""

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
CURSOR = Path("answer.json")  # the response, the number and type of its last event, and the text up to there


def events(cursor: dict[str, Any]) -> Iterable[Any]:
    """The events of a new answer, or those of the stored one after the last number."""
    if cursor["id"]:
        return client.responses.retrieve(cursor["id"], stream=True, starting_after=cursor["last"])
    question = " ".join(sys.argv[1:]) or "What survives?"
    model = os.environ.get("MODEL", "demo")
    return client.responses.create(model=model, input=question, background=True, stream=True)


def save(cursor: dict[str, Any]) -> None:
    """Replace the file in one step, so that number and text in it belong together."""
    new = CURSOR.with_suffix(".new")
    new.write_text(json.dumps(cursor))
    new.replace(CURSOR)


def main() -> None:
    cursor = json.loads(CURSOR.read_text()) if CURSOR.exists() else {"id": None, "last": -1, "type": "", "text": ""}
    print(cursor["text"], end="", flush=True)
    for event in events(cursor):
        if event.type == "response.created":
            cursor["id"] = event.response.id
        if event.type == "response.output_text.delta":
            print(event.delta, end="", flush=True)
            cursor["text"] += event.delta
        cursor["last"], cursor["type"] = event.sequence_number, event.type
        save(cursor)
    print()
    if cursor["type"] != "response.completed":
        sys.exit("The answer is not complete. Remove answer.json to ask again.")
    CURSOR.unlink()


if __name__ == "__main__":
    main()
