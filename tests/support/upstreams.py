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


def fragment(
    index: int | None = None,
    id: str | None = None,  # noqa: A002 - the wire's word
    name: str | None = None,
    arguments: str | None = None,
    **more: Any,
) -> Json:
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
    top: Json = {"service_tier": "default", "system_fingerprint": "fp_1", "usage": None}
    padded: Json = {**top, "obfuscation": OBFUSCATION}
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
        "openai_custom_call": [
            calling(fragment(0, "call_a", "look", "{}")),
            calling({"index": 1, "id": "call_b", "type": "custom", "custom": {"name": "run", "input": ""}}),
            calling({"index": 1, "custom": {"input": "ls -l"}}),
            end("tool_calls"),
        ],
        "openai_moderation": [role(), *speech("All is well."), end(), chunk(moderation={"flagged": False})],
        "openai_empty": [role(**top), end(**top), usage_chunk],
        "openai_two_empty_choices": [role(0), role(1), end("stop", 0), end("stop", 1)],
        "openai_error": [role(), *speech("Now that"), {"error": {"message": "The server had an error.",
                         "type": "server_error", "param": None, "code": None}}],
        "openai_truncated": [role(), *speech("And then it")],
        "openai_late_choice": [said("b", 1), said("a", 0), said("c", 2), *(end(index=i) for i in (2, 0, 1))],
    }  # fmt: skip


def _azure() -> dict[str, list[Json]]:
    safe = {"hate": {"filtered": False, "severity": "safe"}}
    filtered = {"hate": {"filtered": True, "severity": "high"}}
    first = chunk(id="", object="", created=0, model="", prompt_filter_results=[{"prompt_index": 0, "results": safe}])
    top: Json = {"system_fingerprint": "fp_az"}
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

    groq: Json = {"x_groq": {"id": "req_1"}}
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
    sources: Json = {"citations": ["https://example.org/1"], "search_results": [{"title": "One", "date": None}]}

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


VENDORS = ("openai", "azure", "mistral", "deepseek", "groq", "perplexity", "kimi", "alibaba", "gemini")
FINISHES = ("stop", "stop", "tool_calls", "length", "content_filter")


class _Speaker:
    """One choice of a random stream: draws the next delta in its vendor's manner, keeps its calls apart."""

    def __init__(self, random: Random, index: int, vendor: str) -> None:
        self._random = random
        self._index = index
        self._vendor = vendor
        self._calls: list[str] = []
        self._speaks = {
            self._text: 8,
            self._reasoning: 3,
            self._refusal: 1,
            self._call: 4,
            self._two_kinds: 1,
            self._nothing: 1,
            self._unknown: 1,
            self._annotated: 1,
        }

    def speaks(self) -> Json:
        """A choice of the next chunk."""
        (speak,) = self._random.choices(list(self._speaks), list(self._speaks.values()))
        delta = speak()
        more: Json = {}
        if self._vendor == "perplexity" or self._chance(0.05):
            delta["role"] = "assistant"
        if self._chance(0.1) and (delta.get("content") or delta.get("refusal")):
            key = "refusal" if delta.get("refusal") else "content"
            more["logprobs"] = {"content": None, "refusal": None, key: [logprob(self._token())]}
        if self._vendor == "azure":
            more["content_filter_results"] = {"hate": {"filtered": self._chance(0.1)}}
        return choice(delta, index=self._index, **more)

    def ends(self) -> Json:
        more = {"usage": USAGE} if self._vendor == "kimi" else {}
        return choice(self._nothing(), self._random.choice(FINISHES), self._index, **more)

    def _chance(self, share: float) -> bool:
        return self._random.random() < share

    def _token(self) -> str:
        return self._random.choice(TOKENS)

    def _text(self) -> Json:
        return {"content": self._token()}

    def _reasoning(self) -> Json:
        text = self._token()
        if self._vendor == "mistral":
            return {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": text}]}]}
        return {"reasoning" if self._vendor == "groq" else "reasoning_content": text, "content": None}

    def _refusal(self) -> Json:
        return {"refusal": self._token()}

    def _two_kinds(self) -> Json:
        if self._vendor == "mistral":
            return {"content": [*self._reasoning()["content"], {"type": "text", "text": self._token()}]}
        return {**self._reasoning(), **self._text()}

    def _nothing(self) -> Json:
        return self._random.choice([{}, {"content": None}, {"tool_calls": None, "refusal": None}, {"content": ""}])

    def _unknown(self) -> Json:
        fields: list[Json] = [
            {"audio": {"data": "UklG"}},
            {"reasoning_details": [{"type": "reasoning.encrypted", "data": "gA"}]},
            {"function_call": {"arguments": "{"}, "content": self._token()},
        ]
        return self._random.choice(fields)

    def _annotated(self) -> Json:
        told = [citation(self._random.randrange(9)) for _ in range(self._random.randrange(1, 3))]
        return {"annotations": told, "content": self._token()}

    def _call(self) -> Json:
        """A new call, or a fragment of an old one; some vendors tell only whole calls."""
        number, whole = len(self._calls), self._vendor in ("mistral", "groq", "gemini")
        if whole or not self._calls or self._chance(0.3):
            call = f"functions.look:{number}" if self._vendor == "kimi" else f"call_{self._index}_{number}"
            self._calls.append(call)
            more = {"extra_content": {"google": {"thought_signature": call}}} if self._vendor == "gemini" else {}
            text = '{"q":1}' if whole else self._random.choice(ARGUMENTS)
            place = None if self._vendor == "mistral" else 0 if self._vendor == "gemini" else number
            return {"tool_calls": [fragment(place, call, self._random.choice(("look", "open")), text, **more)]}
        told = self._random.sample(range(number), self._random.randint(1, min(2, number)))
        again = "" if self._vendor == "alibaba" else None
        return {"tool_calls": [fragment(one, again, None, self._random.choice(ARGUMENTS)) for one in told]}


def random_stream(random: Random) -> list[Json]:
    """A whole answer: one to three choices in any order, the vendor's habits, a finish reason for each choice."""
    vendor = random.choice(VENDORS)
    speakers = [_Speaker(random, index, vendor) for index in range(random.choice((1, 1, 1, 2, 3)))]
    top: Json = {"system_fingerprint": "fp_1"} if random.random() < 0.5 else {}
    chunks = [chunk(id="", model="", prompt_filter_results=[{"prompt_index": 0}])] if vendor == "azure" else []
    if random.random() < 0.7:
        chunks += [role(index, **top) for index in range(len(speakers))]
    for _ in range(random.randrange(25)):
        if random.random() < 0.05:
            top = {"system_fingerprint": random.choice(("fp_1", "fp_2"))}
        padding = {"obfuscation": OBFUSCATION} if vendor == "openai" else {}
        chunks.append(chunk(random.choice(speakers).speaks(), **top, **padding))
    chunks += [chunk(speaker.ends(), **top) for speaker in random.sample(speakers, len(speakers))]
    if random.random() < 0.7:
        chunks.append(chunk(usage=USAGE, **top))
    return chunks


def random_streams() -> st.SearchStrategy[list[Json]]:
    return st.randoms(use_true_random=False).map(random_stream)


# ── the oracle ──────────────────────────────────────────────────────────────────────────────────────────────────────

OURS = {"id", "object", "created", "model", "choices", "usage", "error", "obfuscation"}
OF_A_CHOICE = {"index", "delta", "finish_reason", "logprobs", "usage"}
OF_A_DELTA = {"role", "content", "refusal", "reasoning_content", "reasoning", "tool_calls", "annotations",
              "obfuscation"}  # fmt: skip
OF_A_CALL = {"index", "id", "type", "function"}


def fold_chunks(chunks: Iterable[Json]) -> Json:
    """All chunks added up: `choices` by index, `usage`, `error`, and in `top` the last of each other field.

    A choice has `content`, `reasoning`, `refusal` (None if never said), `tool_calls` (in the order in which their
    names came; each with the last of its other fields in `call`), `finish_reason`, `logprobs`, `annotations`, in
    `delta` the sum of its deltas' other fields, and in `choice` the last of each of its own. Halves of surrogate pairs
    meet where they stand in one run of a kind. Empty strings, lists and objects say as little as null.
    """
    folded: Json = {"choices": {}, "usage": None, "error": None, "top": {}}
    choices: dict[int, _Choice] = {}
    for each in chunks:
        for key, value in each.items():
            if key not in OURS and not _says_nothing(value):
                folded["top"][key] = value
        folded["error"] = folded["error"] or each.get("error")
        folded["usage"] = each.get("usage") or folded["usage"]
        for told in each.get("choices") or ():
            choices.setdefault(told.get("index") or 0, _Choice()).add(told)
    if not folded["usage"]:
        folded["usage"] = next((each.usage for each in choices.values() if each.usage), None)
    folded["choices"] = {index: choices[index].folded() for index in sorted(choices)}
    return folded


class _Choice:
    def __init__(self) -> None:
        self.usage: Json | None = None
        self._runs: list[tuple[str, list[str]]] = []
        self._calls: list[Json] = []
        self._named: list[Json] = []
        self._finish: str | None = None
        self._logprobs: dict[str, list[Json]] = {}
        self._annotations: list[Json] = []
        self._delta: Json = {}
        self._choice: Json = {}

    def add(self, told: Json) -> None:
        self._finish = told.get("finish_reason") or self._finish
        self.usage = told.get("usage") or self.usage
        for key, value in (told.get("logprobs") or {}).items():
            if value:
                self._logprobs.setdefault(key, []).extend(value)
        for key, value in told.items():
            if key not in OF_A_CHOICE and not _says_nothing(value):
                self._choice[key] = value
        delta = told.get("delta") or {}
        self._say("reasoning", delta.get("reasoning_content"))
        if delta.get("reasoning") != delta.get("reasoning_content"):
            self._say("reasoning", delta.get("reasoning"))
        content = delta.get("content")
        for part in content if isinstance(content, list) else [{"type": "text", "text": content}]:
            self._add_part(part)
        if delta.get("annotations"):
            self._begin("content")
            self._annotations += delta["annotations"]
        self._say("refusal", delta.get("refusal"))
        for told_call in delta.get("tool_calls") or ():
            self._add_call(told_call)
        for key, value in delta.items():
            if key not in OF_A_DELTA and not _says_nothing(value):
                self._delta[key] = _sum(self._delta[key], value) if key in self._delta else value

    def _begin(self, kind: str) -> None:
        if not self._runs or self._runs[-1][0] != kind:
            self._runs.append((kind, []))

    def _say(self, kind: str, text: str | None) -> None:
        if text:
            self._begin(kind)
            self._runs[-1][1].append(text)

    def _add_part(self, part: Json) -> None:
        if part["type"] == "text":
            self._say("content", part["text"])
        elif part["type"] == "thinking":
            for thought in part["thinking"]:
                self._say("reasoning", thought["text"])
        else:
            self._delta["content_parts"] = [*self._delta.get("content_parts", []), part]

    def _add_call(self, told: Json) -> None:
        function = told.get("function") or {}
        if "custom" in told:
            self._delta["tool_calls"] = [*self._delta.get("tool_calls", []), told]
            return
        call = self._call_of(told.get("index"), told.get("id"), function.get("name"))
        call["id"] = call["id"] or told.get("id")
        if function.get("name") and not call["name"]:
            call["name"] = function["name"]
            self._named.append(call)
            self._begin("call")
        call["arguments"].append(function.get("arguments") or "")
        call["call"].update({k: v for k, v in told.items() if k not in OF_A_CALL and not _says_nothing(v)})

    def _call_of(self, index: int | None, id: str | None, name: str | None) -> Json:  # noqa: A002
        same = [call for call in self._calls if call["index"] == index] if index is not None else self._calls
        for call in reversed(same):
            if id and call["id"] == id:
                return call
        anew = not same or (id and name and same[-1]["id"])
        if anew:
            self._calls.append({"index": index, "id": id, "name": None, "arguments": [], "call": {}})
            return self._calls[-1]
        return same[-1]

    def folded(self) -> Json:
        def text_of(kind: str) -> str | None:
            texts = [_mended("".join(run)) for told, run in self._runs if told == kind]
            return "".join(texts) or None

        calls = [
            {"id": call["id"], "name": call["name"], "arguments": _mended("".join(call["arguments"])),
             "call": call["call"]}
            for call in self._named
        ]  # fmt: skip
        return {
            "content": text_of("content"),
            "reasoning": text_of("reasoning"),
            "refusal": text_of("refusal"),
            "tool_calls": calls,
            "finish_reason": self._finish,
            "logprobs": self._logprobs,
            "annotations": self._annotations,
            "delta": self._delta,
            "choice": self._choice,
        }


def _says_nothing(value: Any) -> bool:
    return value is None or value in ("", [], {})


def _mended(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _sum(left: Any, right: Any) -> Any:
    match left, right:
        case (str(), str()) | (list(), list()):
            return left + right
        case dict(), dict():
            return {**left, **{key: _sum(left[key], value) if key in left else value for key, value in right.items()}}
        case _:
            return right
