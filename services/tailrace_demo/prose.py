"""The texts of the demo models. Each claim is one of Tailrace's promises, to be tried out while the text streams."""

LONGEST_QUOTE = 200

ANSWER = """\
> {question}

I am Tailrace's **built-in demo model**: a script without parameters, so do not rely on me for facts about the \
world. The way this text reaches you is real, and you can test it while the text is still arriving.

### What is happening right now

A *worker* reads my stream, one token after another, and appends each token to a **log** in Redis. The page in \
front of you has no connection to me: it reads that log at its own pace and keeps a **cursor**, the id of the last \
entry that it has received. The frontend between the page and Redis holds no state of yours.

So the answer is generated whether or not a client is connected. If a socket breaks, the log is not affected.

### Try to break it

1. **Reload this page** in the middle of this sentence. The text so far appears at once, and the rest continues live.
2. **Open it in a second tab.** There are then two readers, two cursors and one log, and I am still called only once.
3. **Go offline** for a few seconds, then come back. The browser sends `Last-Event-ID` and misses no token.
4. **Restart the frontend.** Any other frontend could take its place, because none of them owns this stream.
5. **Kill the worker** with `kill -9`. Its lease expires within seconds, and the next worker takes over and calls me \
again. Your page receives `restarted` and replaces the old text with the new one. Parts of two different answers are \
never joined.

### How it ends

After my last token, the worker writes one last entry, `done`, with the finish reason and the usage. Every log has \
exactly one `done`, and it is always the last entry. From then on, one read returns the whole answer until its \
retention ends.

Now use a *real* model instead of me: set `OPENAI_BASE_URL` and `OPENAI_API_KEY`, and start again.
"""

THOUGHTS = """\
The question is: {question} I have no weights to consult, so I should describe a subject that I know: how this \
answer travels. These thoughts come first, as an item of their own in the log, followed by the text. If the reader \
disconnects between the two, both must still be there when it returns. I will start with the log, continue with the \
cursor, and then ask to be interrupted.
"""

TOOL_CALLS = (
    ("get_weather", '{"city": "Lisbon", "unit": "celsius", "days": 3}'),
    ("get_local_time", '{"city": "Lisbon", "format": "24h", "note": "a second call, made in parallel"}'),
)

AFTER_THE_TOOLS = """\
Thank you, both results have arrived. I am a demo model and cannot read them, but each of the two calls was an item \
of its own in the log: its name first, then its arguments, fragment by fragment.
"""

LONG_OPENING = """\
> {question}

This is a *long* answer in {count} numbered paragraphs, so you can see at a glance that none is missing and none \
appears twice. Reload the page, close it, open it again: the numbers continue."""

LONG_PARAGRAPHS = (
    "The log is written once, in order. A reader can stand anywhere in it: its cursor is the id of the last entry \
that it received.",
    "A slow reader does not delay a fast one. Each reads the next page when its own socket has drained, and no \
frontend keeps a queue for it.",
    "The channel below a mill is called the *tailrace*. It carries the water away calmly, whatever the wheel has done \
to it.",
    "An entry's id is chosen by its writer. If a reply is lost and the entry is written again, it has the same id and \
Redis refuses the second one, so every token is delivered exactly once.",
    "If a worker stops responding, its lease expires. The next worker starts a new epoch, and from then on every \
write of the first one is refused.",
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
    line = " ".join(question.split()) or "(The question is empty.)"
    return line[:LONGEST_QUOTE].rstrip() + "…" if len(line) > LONGEST_QUOTE else line
