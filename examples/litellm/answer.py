"""Stream an answer through LiteLLM. If the connection breaks, repeat the request: the same answer is streamed again."""

import os
import sys
import time
import uuid
from collections.abc import Iterator
from typing import Any

import litellm
import openai

litellm.suppress_debug_info = True  # LiteLLM prints advice into the answer otherwise

URL = os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8080/v1")
API_KEY = os.environ.get("OPENAI_API_KEY", "none")
MODEL = os.environ.get("MODEL", "demo")
ATTEMPTS = 5  # without new text: the answer has failed, or the server does not return


def request(question: str, key: str) -> Any:
    """The stream of the answer: of a new one, or of the one that a request with this key began."""
    return litellm.completion(
        model=f"openai/{MODEL}",
        api_base=URL,
        api_key=API_KEY,
        messages=[{"role": "user", "content": question}],
        stream=True,
        extra_headers={
            "Idempotency-Key": key,
            "x-tailrace-on-disconnect": "continue",  # the answer continues without its client
        },
    )


def answer(question: str) -> Iterator[str]:
    """The text so far, after each piece. After a lost connection it begins with the first piece again.

    After an answer that failed, or is not whole, it raises.
    """
    key, longest, attempts = uuid.uuid4().hex, 0, 0
    while True:
        text, reason = "", None
        try:
            for chunk in request(question, key):
                text += chunk.choices[0].delta.content or ""
                if len(text) > longest:
                    longest, attempts = len(text), 0
                reason = chunk.choices[0].finish_reason or reason
                yield text
            if reason != "stop":
                raise RuntimeError(f"The answer is not complete: its finish_reason is {reason}.")
            return
        except openai.APIError:  # every error of LiteLLM is one; within a stream, its class has no cause
            attempts += 1
            if not longest or attempts == ATTEMPTS:
                raise
            time.sleep(1)


def main() -> None:
    printed = ""
    for text in answer(" ".join(sys.argv[1:]) or "What survives?"):
        if printed.startswith(text):
            continue
        print(text.removeprefix(printed) if text.startswith(printed) else f"\n{text}", end="", flush=True)
        printed = text
    print()


if __name__ == "__main__":
    main()
