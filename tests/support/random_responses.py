"""Random answers of Responses upstreams: items of every kind, one after another or interleaved."""

from random import Random

from hypothesis import strategies as st

from support import responses_streams as streams
from support.random_streams import ARGUMENTS, TOKENS
from support.responses_streams import Json

END_EVENTS = (
    "output_text.done", "content_part.done", "refusal.done", "reasoning_summary_text.done",
    "reasoning_summary_part.done", "function_call_arguments.done", "custom_tool_call_input.done",
    "content_part.added", "reasoning_summary_part.added", "reasoning_text.done",
)  # fmt: skip
"""Events that some servers leave out: what they hold follows from others."""

DELTAS = ("output_text.delta", "refusal.delta", "function_call_arguments.delta", "reasoning_text.delta")


@st.composite
def random_answers(draw: st.DrawFn) -> list[Json]:
    """A whole answer."""
    return _answer(Random(draw(st.integers(0, 2**48))))


def _answer(random: Random) -> list[Json]:
    items = [_item(random, index) for index in range(random.randrange(5))]
    if items and random.random() < 0.3:  # calls may interleave, and so may any items
        items = [_interleaved(random, items)]
    events = streams.answer(*items)
    left_out = {name for name in END_EVENTS if random.random() < 0.1}
    left_out |= {name for name in DELTAS if random.random() < 0.1}
    kept = [each for each in events if each["type"].removeprefix("response.") not in left_out]
    if random.random() < 0.1:
        kept = [{name: value for name, value in each.items() if name != "sequence_number"} for each in kept]
    return kept


def _interleaved(random: Random, items: list[list[Json]]) -> list[Json]:
    """The events of all items in a random order, each item's own in theirs; items begin in order."""
    rests = [list(item) for item in items]
    mixed: list[Json] = []
    begun = 1
    while any(rests):
        at = random.choice([k for k in range(begun) if rests[k]] or [begun])
        begun = max(begun, at + 1)
        mixed.append(rests[at].pop(0))
        if begun < len(rests) and random.random() < 0.3:
            mixed.append(rests[begun].pop(0))
            begun += 1
    return mixed


def _item(random: Random, index: int) -> list[Json]:
    match random.randrange(7):
        case 0 | 1:
            parts = [_part(random) for _ in range(random.randrange(1, 4))]
            return streams.message(index, *parts, **({"phase": "commentary"} if random.random() < 0.2 else {}))
        case 2:
            encrypted = {"encrypted_content": streams.ENCRYPTED} if random.random() < 0.5 else {}
            return streams.reasoning(index, *(_text(random) for _ in range(random.randrange(4))), **encrypted)
        case 3:
            return streams.reasoning_text(index, _text(random))
        case 4:
            return streams.call(index, "look", *random.choices(ARGUMENTS, k=random.randrange(5)))
        case 5:
            return streams.custom_call(index, "run", *random.choices(TOKENS, k=random.randrange(5)))
    return streams.hosted(index, "web_search_call", "web_search_call.searching", action={"query": _text(random)})


def _part(random: Random) -> list[Json]:
    if random.random() < 0.2:
        return streams.refusal_part(_text(random))
    citations = [streams.citation(n) for n in range(random.choice((0, 0, 0, 1, 3)))]
    return streams.text_part(_text(random), citations, logprobs=random.random() < 0.2)


def _text(random: Random) -> str:
    return "x" + "".join(random.choices(TOKENS, k=random.randrange(6)))
