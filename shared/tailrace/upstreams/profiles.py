"""How the products behind an OpenAI-compatible API differ in the requests that they accept: one row for each.

What an upstream *sends* needs no row: the translators take what comes. A row has what an upstream cannot be asked for
in the usual way. Sources: the products' public descriptions, and for Mistral its answer 422 to `stream_options`
(`extra_forbidden`; it sends the usage in any case).
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from tailrace.events import Json

NO_FIELDS: Mapping[str, bool] = MappingProxyType({})


class Continuation(NamedTuple):
    """How a request asks for the rest of a partial answer, which is its last message, of the role `assistant`.

    `body`: further fields of the request. `message`: further fields of that message.
    """

    body: Mapping[str, bool] = NO_FIELDS
    message: Mapping[str, bool] = NO_FIELDS


class Profile(NamedTuple):
    """A row of the table.

    `product`: for people. `continues`: None where the product cannot continue a partial answer, or does not promise it.
    `stream_options`: whether a Chat Completions request may have the field, with which it asks for the usage.
    """

    name: str
    product: str
    continues: Continuation | None = None
    stream_options: bool = True


CONTINUE_FINAL_MESSAGE = Continuation(body={"continue_final_message": True, "add_generation_prompt": False})
PARTIAL = Continuation(message={"partial": True})
PREFIX = Continuation(message={"prefix": True})
LAST_MESSAGE = Continuation()
"""A last message of the assistant is continued in any case."""

PROFILES: Mapping[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile("openai", "OpenAI"),
        Profile("azure", "Azure OpenAI, at its `/openai/v1` address"),
        Profile("groq", "Groq", LAST_MESSAGE),
        Profile("deepseek", "DeepSeek; continues at its `/beta` address", PREFIX),
        Profile("mistral", "Mistral", PREFIX, stream_options=False),
        Profile("xai", "xAI"),
        Profile("perplexity", "Perplexity"),
        Profile("cerebras", "Cerebras"),
        Profile("moonshot", "Moonshot (Kimi)", PARTIAL),
        Profile("alibaba", "Alibaba Model Studio (Qwen)", PARTIAL),
        Profile("openrouter", "OpenRouter", LAST_MESSAGE),
        Profile("vllm", "vLLM", CONTINUE_FINAL_MESSAGE),
        Profile("llama.cpp", "llama.cpp's `llama-server`", CONTINUE_FINAL_MESSAGE),
        Profile("ollama", "Ollama"),
        Profile("generic", "any other"),
    )
}
"""By name: the values of `profile` in `tailrace.toml` and of `TAILRACE_UPSTREAM_PROFILE`."""


def without_refused_fields(profile: Profile, body: Json) -> Json:
    """A Chat Completions body without the fields that the product refuses."""
    if profile.stream_options or "stream_options" not in body:
        return body
    return {name: value for name, value in body.items() if name != "stream_options"}
