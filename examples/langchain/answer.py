"""Stream an answer through LangChain. If the connection breaks, read the rest of the answer by its id."""

import os
import sys
import time
from collections.abc import Iterator

import openai
from langchain_openai import ChatOpenAI

chat = ChatOpenAI(
    base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8080/v1"),
    api_key=os.environ.get("OPENAI_API_KEY", "none"),
    model=os.environ.get("MODEL", "demo"),
    use_responses_api=True,
    default_headers={"x-tailrace-on-disconnect": "continue"},  # the answer continues without its client
)


def answer(question: str) -> Iterator[str]:
    """The pieces of the answer's text."""
    text, response_id = "", None
    try:
        for chunk in chat.stream(question):
            response_id = chunk.response_metadata.get("id", response_id)
            text += chunk.text
            yield chunk.text
    except Exception:  # the HTTP client's own errors are not those of a package that is imported here
        if response_id is None:
            raise
        yield complete_text(response_id).removeprefix(text)


def complete_text(response_id: str) -> str:
    """The text of a response, once it is complete."""
    while True:
        try:
            response = chat.root_client.responses.retrieve(response_id)
        except openai.APIConnectionError:
            time.sleep(1)
            continue
        if response.status not in ("queued", "in_progress"):
            return str(response.output_text)
        time.sleep(0.2)


if __name__ == "__main__":
    for piece in answer(" ".join(sys.argv[1:]) or "What survives?"):
        print(piece, end="", flush=True)
    print()
