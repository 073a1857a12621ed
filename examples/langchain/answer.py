"""Stream an answer through LangChain. If the connection breaks, read the rest of the answer by its id."""

import os
import sys
import time
from collections.abc import Iterator

import openai
from langchain_openai import ChatOpenAI
from openai.types.responses import Response

chat = ChatOpenAI(
    base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8080/v1"),
    api_key=os.environ.get("OPENAI_API_KEY", "none"),
    model=os.environ.get("MODEL", "demo"),
    use_responses_api=True,
    default_headers={"x-tailrace-on-disconnect": "continue"},  # the answer continues without its client
)


def answer(question: str) -> Iterator[str]:
    """The pieces of the answer's text. After an answer that failed, or is not whole, it raises."""
    text, response_id, status = "", None, None
    try:
        for chunk in chat.stream(question):
            response_id = chunk.response_metadata.get("id", response_id)
            status = chunk.response_metadata.get("status", status)
            text += chunk.text
            yield chunk.text
    except Exception as error:  # a lost connection, with an error of the HTTP client's own, or a failed answer
        if response_id is None:
            raise
        response = ended_response(response_id)
        yield response.output_text.removeprefix(text)
        if response.error:
            raise RuntimeError(response.error.message) from error
        status = response.status
    if status != "completed":
        raise RuntimeError(f"The answer is not complete: its status is {status}.")


def ended_response(response_id: str) -> Response:
    """The stored response, once it has ended."""
    while True:
        try:
            response = chat.root_client.responses.retrieve(response_id)
        except openai.APIConnectionError:
            time.sleep(1)
            continue
        if response.status not in ("queued", "in_progress"):
            return response
        time.sleep(0.2)


if __name__ == "__main__":
    for piece in answer(" ".join(sys.argv[1:]) or "What survives?"):
        print(piece, end="", flush=True)
    print()
