"""The texts of the demo models. Each claim is one of Tailrace's promises, to be tried out while the text streams."""

ANSWER = """\
This is Tailrace's **built-in demo model**: a script that did not read your question and sends the same text \
to every question. The way this text reaches you is real, and you can test it while the text is still arriving.

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
5. **Kill the worker**, with the button on the page of `tailrace dev` or with `kill -9`. Its lease expires within \
seconds, and the next worker takes over and calls me again. Your page receives `restarted` and replaces the old text \
with the new one. Parts of two different answers are never joined.

### How it ends

After my last token, the worker writes one last entry, `done`, with the finish reason and the usage. Every log has \
exactly one `done`, and it is always the last entry. From then on, one read returns the whole answer until its \
retention ends.

Now use a *real* model instead of me: set `OPENAI_BASE_URL` and `OPENAI_API_KEY`, and start again.
"""

SHORT = "A short answer, which takes its time: one token after another, each of them stored as it arrives."

REFUSAL = "I am a demo model, and this is how I refuse: in words, and in an item of its own."

JSON_ANSWER = """\
{
  "survives": ["a reload", "a second tab", "going offline", "a frontend's restart", "a worker's death"],
  "log": {"entries": "numbered", "cursor": "the id of the last one", "ends": 1},
  "note": "This is a script that did not read your question. Each line that you see is a whole value, however little \
of this text had arrived when it was sent."
}
"""

JSON_MISFIT = """\
["This is a list.", "A schema of OpenAI's API asks for an object, so it does not fit any of them."]
"""

THOUGHTS = """\
A script has no thoughts; these words stand where a model's reasoning would. They come first, as an \
item of their own in the log, followed by the text. If the reader disconnects between the two, both are still there \
when it returns. The text will start with the log, continue with the cursor, and then ask to be interrupted.
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


def long_answer() -> str:
    numbered = (f"**{k + 1}.** {LONG_PARAGRAPHS[k % len(LONG_PARAGRAPHS)]}" for k in range(LONG_COUNT))
    return "\n\n".join((LONG_OPENING.format(count=LONG_COUNT), *numbered))
