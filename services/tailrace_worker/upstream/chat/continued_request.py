"""The body for the rest of an answer: its last message is the text so far, as the assistant's.

What marks that message as a beginning is a matter of the upstream (`Profile.continues`). The text is sent as it is in
the log. (A chat template that trims the ends of messages may let the model repeat white space where the text was cut.)

The limits of tokens are for the whole answer, so they are lowered by the text's size in tokens, which is an estimate.
The usage of such an answer counts the text among the prompt's tokens; it is moved to the completion's by the same
estimate.
"""

import math

from tailrace.events import Json
from tailrace.log.output import BYTES_A_TOKEN
from tailrace.upstreams import Continuation

LIMITS = ("max_tokens", "max_completion_tokens")


def continued_request(chat: Json, how: Continuation, text: str) -> Json:
    """A Chat Completions body that asks for the rest of a text."""
    message = {"role": "assistant", "content": text, **how.message}
    body = {**chat, **how.body, "messages": [*chat["messages"], message]}
    body.pop("echo", None)  # the text is in the log
    tokens = tokens_of(text)
    return body | {name: max(1, chat[name] - tokens) for name in LIMITS if isinstance(chat.get(name), int)}


def joined_usage(usage: Json, text: str) -> Json:
    """The usage of the whole answer, by that of the request for its rest; marked `estimated`. The total is exact."""
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if type(prompt) is not int or type(completion) is not int:
        return usage
    moved = min(tokens_of(text), max(0, prompt))
    return {**usage, "prompt_tokens": prompt - moved, "completion_tokens": completion + moved, "estimated": True}


def tokens_of(text: str) -> int:
    """The tokens of a text, estimated."""
    return math.ceil(len(text.encode()) / BYTES_A_TOKEN)
