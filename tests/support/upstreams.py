"""What upstreams say: streams of chat chunks, by name and at random, and an oracle that adds them up.

The named streams are written after what the vendors really send (their order, their odd fields, their places for
usage and reasoning), shortened. `random_streams` draws any mixture of all that. `fold_chunks` is the plain way to add
chunks up; it knows nothing of Tailrace, so it judges what is read from an upstream and what a wire tells alike.
"""

from collections.abc import Iterable, Iterator
from random import Random
from typing import Any

from hypothesis import strategies as st

Json = dict[str, Any]

USAGE: Json = {
    "prompt_tokens": 11,
    "completion_tokens": 7,
    "total_tokens": 18,
    "completion_tokens_details": {"reasoning_tokens": 2},
}
OBFUSCATION = "xY3k"


# ── chunks ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def chunk(*choices: Json, **top: Any) -> Json:
    """A chunk as most upstreams send it; `top` replaces or adds fields."""
    known = {"id": "chatcmpl-9", "object": "chat.completion.chunk", "created": 1_750_000_000, "model": "m-1"}
    return {**known, "choices": list(choices), **top}


def choice(delta: Json | None, finish: str | None = None, index: int = 0, **more: Any) -> Json:
    return {"index": index, "delta": delta, "finish_reason": finish, **more}


def said(content: str, index: int = 0, **top: Any) -> Json:
    return chunk(choice({"content": content}, index=index), **top)


def role(index: int = 0, **top: Any) -> Json:
    return chunk(choice({"role": "assistant", "content": ""}, index=index), **top)


def end(finish: str = "stop", index: int = 0, **top: Any) -> Json:
    return chunk(choice({}, finish, index), **top)


def words(text: str) -> Iterator[str]:
    """The text cut before each space, as tokens come."""
    head, *rest = text.split(" ")
    yield head
    yield from (" " + word for word in rest)


def speech(text: str, **top: Any) -> list[Json]:
    return [said(word, **top) for word in words(text)]


def fragment(index: int | None = None, id: str | None = None, name: str | None = None, arguments: str | None = None,
             **more: Any) -> Json:  # fmt: skip  # noqa: A002 - the wire's word
    """One element of `tool_calls`, with nothing in it that is not given."""
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    told: Json = {"index": index, "id": id, "type": "function" if name else None, "function": function or None, **more}
    return {key: value for key, value in told.items() if value is not None}


def calling(*fragments: Json, index: int = 0, **top: Any) -> Json:
    return chunk(choice({"tool_calls": list(fragments)}, index=index), **top)


def logprob(token: str) -> Json:
    return {"token": token, "logprob": -0.25, "bytes": list(token.encode()), "top_logprobs": []}


def citation(number: int) -> Json:
    page = {"url": f"https://example.org/{number}", "title": f"Page {number}", "start_index": number, "end_index": 9}
    return {"type": "url_citation", "url_citation": page}


# ── named streams ───────────────────────────────────────────────────────────────────────────────────────────────────


def _openai() -> dict[str, list[Json]]:
    top = {"service_tier": "default", "system_fingerprint": "fp_1", "usage": None}
    padded = {**top, "obfuscation": OBFUSCATION}
    usage_chunk = chunk(**{**top, "usage": USAGE})
    return {
        "openai_text": [role(**padded), *speech("It rains in Bergen today.", **padded), end(**padded), usage_chunk],
        "openai_text_without_usage": [role(), *speech("Yes, and no."), end()],
        "openai_length": [role(**top), *speech("Once upon a", **top), end("length", **top), usage_chunk],
        "openai_content_filter": [role(), *speech("I will now"), end("content_filter")],
        "openai_refusal": [
            chunk(choice({"role": "assistant", "content": None, "refusal": None}), **top),
            *(chunk(choice({"refusal": word}), **top) for word in words("I'm sorry, I can't.")),
            end(**top),
            usage_chunk,
        ],
        "openai_call": [
            chunk(choice({"role": "assistant", "content": None, "tool_calls": [fragment(0, "call_a", "look", "")]})),
            *(calling(fragment(0, arguments=piece)) for piece in ('{"q"', ':"fj', 'ords"}')),
            end("tool_calls", usage=USAGE),
        ],
        "openai_text_then_call": [
            role(),
            *speech("Let me look."),
            calling(fragment(0, "call_a", "look", "")),
            calling(fragment(0, arguments='{"q":1}')),
            end("tool_calls"),
        ],
        "openai_parallel_calls": [
            chunk(choice({"role": "assistant", "content": None})),
            calling(fragment(0, "call_a", "look", "")),
            calling(fragment(0, arguments='{"q":')),
            calling(fragment(0, arguments="1}")),
            calling(fragment(1, "call_b", "open", "")),
            calling(fragment(1, arguments='{"u":"/"}')),
            end("tool_calls"),
        ],
        "openai_interleaved_calls": [
            calling(fragment(0, "call_a", "look", ""), fragment(1, "call_b", "look", "")),
            calling(fragment(0, arguments='{"q":')),
            calling(fragment(1, arguments='{"q":'), fragment(0, arguments="1")),
            calling(fragment(0, arguments="}")),
            calling(fragment(1, arguments="2}")),
            end("tool_calls"),
        ],
        "openai_three_choices": [
            *(role(index=index, **top) for index in range(3)),
            *(said(word, index, **top) for word in words("well it is") for index in (0, 1, 2)),
            *(end(finish, index, **top) for index, finish in enumerate(("stop", "length", "stop"))),
            usage_chunk,
        ],
        "openai_logprobs": [
            chunk(choice({"role": "assistant", "content": ""}, logprobs={"content": [], "refusal": None})),
            *(chunk(choice({"content": word}, logprobs={"content": [logprob(word)], "refusal": None}))
              for word in words("It is so")),
            chunk(choice({"content": ""}, logprobs={"content": [logprob("\ufffd")], "refusal": None})),
            chunk(choice({}, "stop", logprobs=None)),
        ],
        "openai_refusal_logprobs": [
            *(chunk(choice({"refusal": word}, logprobs={"content": None, "refusal": [logprob(word)]}))
              for word in words("No, never.")),
            end(),
        ],
        "openai_search": [
            role(),
            *speech("See the pages"),
            chunk(choice({"content": " here."})),
            chunk(choice({"annotations": [citation(1), citation(2)]})),
            chunk(choice({"content": "", "annotations": [citation(3)]})),
            end(),
        ],
        "openai_audio": [
            chunk(choice({"role": "assistant", "refusal": None, "audio": {"id": "audio_1", "transcript": "He"}})),
            chunk(choice({"audio": {"transcript": "llo", "data": "UklG"}})),
            chunk(choice({"audio": {"expires_at": 1_750_000_100}})),
            end(),
        ],
        "openai_function_call": [
            chunk(choice({"role": "assistant", "content": None, "function_call": {"name": "look", "arguments": ""}})),
            chunk(choice({"function_call": {"arguments": '{"q"'}})),
            chunk(choice({"function_call": {"arguments": ":1}"}})),
            end("function_call"),
        ],
        "openai_moderation": [role(), *speech("All is well."), end(), chunk(moderation={"flagged": False})],
        "openai_empty": [role(**top), end(**top), usage_chunk],
        "openai_two_empty_choices": [role(0), role(1), end("stop", 0), end("stop", 1)],
        "openai_error": [role(), *speech("Now that"), {"error": {"message": "The server had an error.",
                         "type": "server_error", "param": None, "code": None}}],
        "openai_truncated": [role(), *speech("And then it")],
        "openai_late_choice": [said("b", 1), said("a", 0), said("d", 3), *(end(index=i) for i in (3, 0, 1))],
    }  # fmt: skip


def _azure() -> dict[str, list[Json]]:
    safe = {"hate": {"filtered": False, "severity": "safe"}}
    filtered = {"hate": {"filtered": True, "severity": "high"}}
    first = chunk(id="", object="", created=0, model="", prompt_filter_results=[{"prompt_index": 0, "results": safe}])
    top = {"system_fingerprint": "fp_az"}
    spoken = [
        chunk(choice({"content": word}, content_filter_results=safe, logprobs=None), **top)
        for word in words("Oslo lies by a fjord.")
    ]
    opening = chunk(choice({"role": "assistant", "content": "", "refusal": None}, content_filter_results={}), **top)
    return {
        "azure_text": [first, opening, *spoken, chunk(choice({}, "stop", content_filter_results={}), **top),
                       chunk(usage=USAGE, **top)],
        "azure_content_filter": [first, opening, *spoken[:3],
                                 chunk(choice({}, "content_filter", content_filter_results=filtered), **top)],
        "azure_asynchronous_filter": [first, opening, *spoken, end(**top),
                                      chunk({"index": 0, "finish_reason": None, "content_filter_results": safe,
                                             "content_filter_offsets": {"check_offset": 4}}, id="")],
        "azure_empty": [first, opening, chunk(choice({}, "stop", content_filter_results={}), **top)],
    }  # fmt: skip


def _mistral() -> dict[str, list[Json]]:
    def thinking(text: str) -> Json:
        return {"type": "thinking", "thinking": [{"type": "text", "text": text}]}

    return {
        "mistral_text": [role(), *speech("Bien sûr, voilà."), chunk(choice({"content": ""}, "stop"), usage=USAGE)],
        "mistral_thinking": [
            role(),
            *(chunk(choice({"content": [thinking(word)]})) for word in words("The user greets me.")),
            chunk(choice({"content": [thinking(" So."), {"type": "text", "text": "Hello"}]})),
            *speech(" to you."),
            chunk(choice({"content": ""}, "stop"), usage=USAGE),
        ],
        "mistral_references": [
            said("As said "),
            chunk(choice({"content": [{"type": "text", "text": "there"},
                                      {"type": "reference", "reference_ids": [1, 2]}]})),
            said("."),
            end(),
        ],
        "mistral_calls": [
            role(),
            chunk(choice({"content": "", "tool_calls": [fragment(None, "Zx3kq9aBc", "look", '{"q": 1}')]})),
            chunk(choice({"content": "", "tool_calls": [fragment(None, "Qp8sd2Lmn", "look", '{"q": 2}'),
                                                        fragment(None, "Rt7fg1Klo", "open", "{}")]},
                         "tool_calls"), usage=USAGE),
        ],
        "mistral_repeated_name": [
            calling(fragment(None, "Zx3kq9aBc", "look", '{"q"')),
            calling(fragment(None, "Zx3kq9aBc", "look", ": 1}")),
            end("tool_calls"),
        ],
    }  # fmt: skip


def _reasoners() -> dict[str, list[Json]]:
    def thought(text: str, key: str = "reasoning_content") -> Json:
        return chunk(choice({"content": None, key: text}), system_fingerprint="fp_r")

    groq = {"x_groq": {"id": "req_1"}}
    detail = {"type": "reasoning.encrypted", "data": "gAAAA", "format": "openai-responses-v1"}
    return {
        "deepseek_reasoning": [
            chunk(choice({"role": "assistant", "content": None, "reasoning_content": ""})),
            *(thought(word) for word in words("Nine is more than eight.")),
            *(chunk(choice({"content": word, "reasoning_content": None})) for word in words("Nine, of course.")),
            end(usage=USAGE),
        ],
        "deepseek_reasoning_then_calls": [
            *(thought(word) for word in words("I must look.")),
            calling(fragment(0, "call_0_a", "look", "")),
            calling(fragment(0, arguments='{"q":3}')),
            calling(fragment(1, "call_1_b", "look", '{"q":4}')),
            end("tool_calls", usage=USAGE),
        ],
        "groq_reasoning": [
            chunk(choice({"role": "assistant", "content": ""}), **groq),
            *(thought(word, "reasoning") for word in words("Easy, that.")),
            *speech("Forty two."),
            end(usage=USAGE, x_groq={"id": "req_1", "usage": USAGE}),
        ],
        "groq_whole_call": [
            chunk(choice({"role": "assistant", "content": None}), **groq),
            calling(fragment(0, "fc_1", "look", '{"q":5}'), fragment(1, "fc_2", "open", "{}")),
            end("tool_calls", x_groq={"id": "req_1"}),
        ],
        "openrouter_encrypted_reasoning": [
            chunk(choice({"role": "assistant", "content": "", "reasoning": "Hm,",
                          "reasoning_details": [{"type": "reasoning.text", "text": "Hm,"}]})),
            chunk(choice({"content": "", "reasoning": " well.",
                          "reasoning_details": [{"type": "reasoning.text", "text": " well."}]})),
            chunk(choice({"content": "", "reasoning": None, "reasoning_details": [detail]})),
            *speech("So be it."),
            chunk(choice({"content": ""}, "stop", native_finish_reason="completed")),
        ],
        "openrouter_error": [
            role(provider="Some"),
            *speech("Half of"),
            chunk(choice({"content": ""}, "error"), error={"code": 502, "message": "Provider disconnected"}),
        ],
        "reasoning_between_texts": [
            *speech("First this."), thought("Then"), thought(" what?"), *speech("Then that."), end(),
        ],
    }  # fmt: skip


def _others() -> dict[str, list[Json]]:
    sources = {"citations": ["https://example.org/1"], "search_results": [{"title": "One", "date": None}]}

    def perplexed(text: str, number: int, finish: str | None = None) -> Json:
        usage = {**USAGE, "completion_tokens": number}
        return chunk(choice({"role": "assistant", "content": text}, finish), usage=usage, **sources)

    kimi = ("functions.look:0", "functions.look:1")
    google = {"google": {"thought_signature": "CiQB+/8="}}
    return {
        "perplexity_search": [
            *(perplexed(word, number) for number, word in enumerate(words("Tides follow the moon [1]."))),
            perplexed("", 6, "stop"),
        ],
        "kimi_calls": [
            role(),
            *speech("Two things."),
            calling(fragment(0, kimi[0], "look", "")),
            calling(fragment(0, arguments='{"q":"a:b"}')),
            calling(fragment(1, kimi[1], "look", "")),
            calling(fragment(1, arguments="{}")),
            chunk(choice({}, "tool_calls", usage=USAGE)),
        ],
        "alibaba_call": [
            chunk(choice({"role": "assistant", "content": "", "reasoning_content": "Let us see"})),
            calling(fragment(0, "call_x1", "look", "")),
            calling(fragment(0, "", None, '{"q": ')),
            calling(fragment(0, "", "", "6}")),
            end("tool_calls"),
            chunk(usage=USAGE),
        ],
        "gemini_call": [
            chunk(choice({"role": "assistant", "tool_calls": [
                fragment(0, "function-call-1", "look", '{"q":7}', extra_content=google)]}, "tool_calls"), usage=USAGE),
        ],
        "gemini_calls_under_one_index": [
            calling(fragment(0, "function-call-1", "look", '{"q":7}', extra_content=google)),
            calling(fragment(0, "function-call-2", "open", '{"u":"/"}')),
            end("tool_calls", usage=USAGE),
        ],
        "gemini_text": [
            chunk(choice({"role": "assistant", "content": "Sun"}, extra_content=google), usage=USAGE),
            chunk(choice({"role": "assistant", "content": " and rain."}, "stop"), usage=USAGE),
        ],
        "xai_text": [
            *(chunk(choice({"role": "assistant", "content": word}), usage=USAGE) for word in words("Why not.")),
            end(usage=USAGE), chunk(usage=USAGE, citations=["https://example.org/9"]),
        ],
        "cerebras_text": [role(), *speech("Fast it is."), end(usage=USAGE, time_info={"queue_time": 0.1})],
        "vllm_stop_reason": [role(), *speech("Up to here"),
                             chunk(choice({}, "stop", stop_reason="###")), chunk(usage=USAGE)],
        "vllm_late_name": [
            calling(fragment(0, "chatcmpl-tool-1", None, '{"q"')),
            calling(fragment(0, None, "look", ":8}")),
            end("tool_calls"),
        ],
        "ollama_text": [
            *(chunk(choice({"role": "assistant", "content": word})) for word in words("Local, but fine.")),
            end(system_fingerprint="fp_ollama"),
        ],
        "changing_fingerprints": [role(system_fingerprint="fp_1"), said("one", system_fingerprint="fp_2"),
                                  said(" two", system_fingerprint="fp_2"), end(system_fingerprint="fp_3")],
        "cut_surrogates": [said("smile \ud83d"), said("\ude00 and \udc00"), said(" \ud83d"), end()],
        "separators": [said("a\u2028b"), said("\u0085\x00"), said("\ufeff\r\n\n"), end()],
    }  # fmt: skip


STREAMS: dict[str, list[Json]] = {**_openai(), **_azure(), **_mistral(), **_reasoners(), **_others()}
"""Streams by name. Two end in an error object (`…_error`), one breaks off (`…_truncated`)."""


# ── random streams ──────────────────────────────────────────────────────────────────────────────────────────────────

TOKENS = ("Hello", " the", " of", ",", "\n\n", " naïve", "日本", " 😀", "\u2028", '"', "\\", "\x00", "e\u0301", "")
ARGUMENTS = ('{"q":', '"a', ' b"', ",", '"n":', "1", "}", "日", "")


class _Speaker:
    """One choice of a random stream: draws the next delta, keeps its calls apart."""

    def __init__(self, random: Random, index: int, vendor: str) -> None:
        self._random = random
        self._index = index
        self._vendor = vendor
        self._calls: list[str] = []
        self._reasoning = {"groq": "reasoning", "mistral": "content"}.get(vendor, "reasoning_content")

    def says(self) -> Json:
        kinds = ("text", "text", "text", "reasoning", "refusal", "call", "call", "nothing", "unknown", "annotations")
        kind = self._random.choice(kinds)
        delta: Json = getattr(self, f"_{kind}")()
        if self._vendor == "perplexity" or self._random.random() < 0.05:
            delta["role"] = "assistant"
        more: Json = {}
        if self._random.random() < 0.1 and kind in ("text", "refusal", "reasoning"):
            key = "refusal" if kind == "refusal" else "content"
            more["logprobs"] = {"content": None, "refusal": None, key: [logprob(self._token())]}
        if self._vendor == "azure":
            more["content_filter_results"] = {"hate": {"filtered": self._random.random() < 0.1}}
        return choice(delta, index=self._index, **more)

    def _token(self) -> str:
        return self._random.choice(TOKENS)

    def _text(self) -> Json:
        return {"content": self._token()}

    def _reasoning_text(self, text: str) -> Json:
        if self._reasoning == "content":
            return {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": text}]}]}
        return {self._reasoning: text, "content": None}

    def _reasoning(self) -> Json:  # type: ignore[no-redef]
        raise NotImplementedError

    def _refusal(self) -> Json:
        return {"refusal": self._token()}

    def _nothing(self) -> Json:
        return self._random.choice([{}, {"content": None}, {"tool_calls": None}, {"content": ""}])

    def _unknown(self) -> Json:
        fields: list[Json] = [
            {"audio": {"data": "UklG"}},
            {"reasoning_details": [{"type": "reasoning.encrypted", "data": "gA"}]},
            {"function_call": {"arguments": "{"}, "content": self._token()},
        ]
        return self._random.choice(fields)

    def _annotations(self) -> Json:
        told = [citation(self._random.randrange(9)) for _ in range(self._random.randrange(1, 3))]
        return {"annotations": told, "content": self._token()}

    def _call(self) -> Json:
        raise NotImplementedError
