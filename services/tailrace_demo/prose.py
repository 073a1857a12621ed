"""The demo models' words. Every claim in them is one of Tailrace's promises, to be tried while they stream."""

LONGEST_QUOTE = 200

ANSWER = """\
> {question}

I am Tailrace's **built-in demo model**: a script without a single parameter, so take nothing from me about \
the world. What is real is the way these words reach you, and that is worth a look while they still arrive.

### What is happening right now

A *worker* is reading my stream, one token after another, and appends each to a **log** in Redis. The page in \
front of you does not hang on my connection at all: it reads that log at its own pace and keeps a **cursor**, \
the id of the last entry it has seen. The web server between the two holds nothing of yours in its memory.

So the answer exists whether or not anybody is listening. A socket may break; the log does not notice.

### Try to break it

1. **Reload this page** in the middle of this sentence. What was said is told at once, the rest goes on live.
2. **Open it in a second tab.** Two readers, two cursors, one log, and I am still asked only once.
3. **Go offline** for a few seconds, then come back. The browser sends `Last-Event-ID` and misses no word.
4. **Restart the web server.** Any other one could answer in its place, for none of them owns this stream.
5. **Kill the worker** with `kill -9`. Its lease runs out within seconds, the next worker takes over and asks \
me again; your page is told `restarted` and shows the new text in place of the old. Two halves of different \
answers are never glued together.

### How it ends

When I am through, the worker writes one last entry, `done`, with the finish reason and the usage. Every log \
has exactly one, and it is always the last. From then on the whole answer can be had with a single read, \
until its retention is over.

Now put a *real* model in my place: set `OPENAI_BASE_URL` and `OPENAI_API_KEY`, and start again.
"""

THOUGHTS = """\
The question is: {question} Let me see. I have no weights to consult, so I had better speak about what I do \
know: how this very answer travels. First these thoughts, as an item of their own in the log; then the text. \
If the reader drops out between the two, both must still be there on return. Good. I shall start with the log, \
then the cursor, and then I shall ask to be interrupted.
"""

TOOL_CALLS = (
    ("get_weather", '{"city": "Lisbon", "unit": "celsius", "days": 3}'),
    ("get_local_time", '{"city": "Lisbon", "format": "24h", "note": "a second call, told in parallel"}'),
)

AFTER_THE_TOOLS = """\
Thank you, both results have arrived. I cannot read them, being a demo model, but each of the two calls was an \
item of its own in the log: its name first, then its arguments, fragment by fragment.
"""

LONG_OPENING = """\
> {question}

This is a *long* answer in {count} numbered paragraphs, so that you can see at a glance that none is missing \
and none is told twice. Reload, leave, come back: the numbers run on."""

LONG_PARAGRAPHS = (
    "The river does not wait for anybody to look at it. The log is like that: it is written once, in order, \
and each reader stands on the bank wherever its cursor is.",
    "A slow reader is no trouble to a fast one. Each takes the next page when its own socket has drained, and \
no server keeps a queue on its behalf.",
    "Below the mill the water is calm again. That stretch is called the *tailrace*: it carries away, safely, \
what the wheel has let through.",
    "An entry has an id chosen by its writer. Written again after a lost reply, it carries the same id, and \
Redis refuses the second one; so every token is told exactly once.",
    "If a worker falls silent, its lease ends. The next one raises the attempt, and from that moment whatever \
the first might still write is refused.",
)

LONG_COUNT = 90


def answer_to(question: str) -> str:
    return ANSWER.format(question=quoted(question))


def thoughts_on(question: str) -> str:
    return THOUGHTS.format(question=quoted(question))


def long_answer_to(question: str) -> str:
    numbered = (f"**{k + 1}.** {LONG_PARAGRAPHS[k % len(LONG_PARAGRAPHS)]}" for k in range(LONG_COUNT))
    return "\n\n".join((LONG_OPENING.format(question=quoted(question), count=LONG_COUNT), *numbered))


def quoted(question: str) -> str:
    on_one_line = " ".join(question.split()) or "(You asked nothing.)"
    cut = len(on_one_line) > LONGEST_QUOTE
    return on_one_line[:LONGEST_QUOTE].rstrip() + "…" if cut else on_one_line
