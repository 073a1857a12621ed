"""Random streams of chat chunks, in the manner of each vendor."""

from collections.abc import Sequence
from random import Random

from hypothesis import strategies as st

from support.chat_chunks import OBFUSCATION, USAGE, Json, choice, chunk, citation, fragment, logprob, role

TOKENS = ("Hello", " the", " of", ",", "\n\n", " naïve", "日本", " 😀", "\u2028", '"', "\\", "\x00", "e\u0301", "")
ARGUMENTS = ('{"q":', '"a', ' b"', ",", '"n":', "1", "}", "日", "")
VENDORS = ("openai", "azure", "mistral", "deepseek", "groq", "perplexity", "kimi", "alibaba", "gemini")
FINISHES = ("stop", "stop", "tool_calls", "length", "content_filter")


class _RandomChoice:
    """One choice of a random stream: draws deltas as its vendor sends them, and numbers its calls."""

    def __init__(self, random: Random, index: int, vendor: str, tokens: Sequence[str]) -> None:
        self._random = random
        self._tokens = tokens
        self._index = index
        self._vendor = vendor
        self._calls: list[str] = []
        self._weights = {
            self._text: 8,
            self._reasoning: 3,
            self._refusal: 1,
            self._call: 4,
            self._two_kinds: 1,
            self._nothing: 1,
            self._unknown: 1,
            self._annotated: 1,
        }

    def next(self) -> Json:
        """The choice of the next chunk."""
        (draw,) = self._random.choices(list(self._weights), list(self._weights.values()))
        delta = draw()
        more: Json = {}
        if self._vendor == "perplexity" or self._chance(0.05):
            delta["role"] = "assistant"
        if self._chance(0.1) and (delta.get("content") or delta.get("refusal")):
            key = "refusal" if delta.get("refusal") else "content"
            more["logprobs"] = {"content": None, "refusal": None, key: [logprob(self._random.choice(TOKENS))]}
        if self._vendor == "azure":
            more["content_filter_results"] = {"hate": {"filtered": self._chance(0.1)}}
        return choice(delta, index=self._index, **more)

    def finish(self) -> Json:
        more = {"usage": USAGE} if self._vendor == "kimi" else {}
        return choice(self._nothing(), self._random.choice(FINISHES), self._index, **more)

    def _chance(self, share: float) -> bool:
        return self._random.random() < share

    def _token(self) -> str:
        return self._random.choice(self._tokens)

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
        annotations = [citation(self._random.randrange(9)) for _ in range(self._random.randrange(1, 3))]
        return {"annotations": annotations, "content": self._token()}

    def _call(self) -> Json:
        """A new call, or a fragment of an old one; some vendors send only whole calls."""
        number, whole = len(self._calls), self._vendor in ("mistral", "groq", "gemini")
        if whole or not self._calls or self._chance(0.3):
            call = f"functions.look:{number}" if self._vendor == "kimi" else f"call_{self._index}_{number}"
            self._calls.append(call)
            more = {"extra_content": {"google": {"thought_signature": call}}} if self._vendor == "gemini" else {}
            text = '{"q":1}' if whole else self._random.choice(ARGUMENTS)
            place = None if self._vendor == "mistral" else 0 if self._vendor == "gemini" else number
            return {"tool_calls": [fragment(place, call, self._random.choice(("look", "open")), text, **more)]}
        indexes = self._random.sample(range(number), self._random.randint(1, min(2, number)))
        again = "" if self._vendor == "alibaba" else None
        return {"tool_calls": [fragment(one, again, None, self._random.choice(ARGUMENTS)) for one in indexes]}


def random_stream(random: Random, tokens: Sequence[str] = TOKENS) -> list[Json]:
    """A whole answer of a random vendor: one to three choices in any order, a finish reason for each."""
    vendor = random.choice(VENDORS)
    choices = [_RandomChoice(random, index, vendor, tokens) for index in range(random.choice((1, 1, 1, 2, 3)))]
    top: Json = {"system_fingerprint": "fp_1"} if random.random() < 0.5 else {}
    chunks = [chunk(id="", model="", prompt_filter_results=[{"prompt_index": 0}])] if vendor == "azure" else []
    if random.random() < 0.7:
        chunks += [role(index, **top) for index in range(len(choices))]
    for _ in range(random.randrange(25)):
        if random.random() < 0.05:
            top = {"system_fingerprint": random.choice(("fp_1", "fp_2"))}
        padding = {"obfuscation": OBFUSCATION} if vendor == "openai" else {}
        chunks.append(chunk(random.choice(choices).next(), **top, **padding))
    chunks += [chunk(each.finish(), **top) for each in random.sample(choices, len(choices))]
    if random.random() < 0.7:
        chunks.append(chunk(usage=USAGE, **top))
    return chunks


def random_streams() -> st.SearchStrategy[list[Json]]:
    return st.randoms(use_true_random=False).map(random_stream)
