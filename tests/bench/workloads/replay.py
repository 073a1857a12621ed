"""A finished log of 50,000 tokens, one an entry, read from its beginning by 4 clients at once, repeatedly.

The tokens that clients receive are counted. The naive pattern sends an event a token, as is customary; the figures
beside it include the variant that sends each reply of XREAD as one piece. Tailrace coalesces adjacent deltas when a
reader catches up.
"""

from collections.abc import Sequence
from typing import NamedTuple

from bench import procfs
from bench.children import load
from bench.delivery import NAIVE, TAILRACE, Side, appends_to
from bench.harness import get, product
from bench.measures import Finding

TOKENS = 50_000
TOKEN = "~text"  # five characters, the first is the mark that clients count
READERS = 4


class Replay(NamedTuple):
    """One trial: tokens that clients received, CPU of the frontend and of Redis, seconds of wall time."""

    tokens: int
    web_s: float
    redis_s: float
    seconds: float

    @property
    def tokens_a_cpu_s(self) -> float:
        return self.tokens / self.web_s


async def replay(seconds: float) -> Sequence[Finding]:
    ours = await replay_trial(TAILRACE._replace(append=appends_to("log")), seconds)  # an entry a token
    naive = await replay_trial(NAIVE, seconds)
    joined = await replay_trial(NAIVE._replace(path=NAIVE.path + "?joined=1"), seconds)
    beside = {}
    for side, trial in (("Tailrace", ours), ("naive", naive), ("naive joined", joined)):
        beside[f"{side}: tokens a web CPU s"] = trial.tokens_a_cpu_s
        beside[f"{side}: tokens/s"] = trial.tokens / trial.seconds
        beside[f"{side}: Redis µs a token"] = 1e6 * trial.redis_s / trial.tokens
    return [Finding("replay/tokens", ours.tokens_a_cpu_s / naive.tokens_a_cpu_s, beside)]


async def replay_trial(side: Side, seconds: float) -> Replay:
    async with (
        product() as stack, side.web(stack) as web,
        side.append(stack, web) as append, load("bench.reading") as readers,
    ):  # fmt: skip
        (name,) = await append.do("create", logs=1)
        await append.do("fill", logs=[0], tokens=TOKENS, texts=[TOKEN])
        requests = [get(side.path.format(name), ["Connection: close"])] * READERS
        await readers.do("replay", port=web.port, requests=requests[:1], seconds=0)
        before = procfs.cpu_s(web.pid), procfs.cpu_s(stack.redis.pid)
        received = await readers.do("replay", port=web.port, requests=requests, seconds=seconds)
        web_s, redis_s = procfs.cpu_s(web.pid) - before[0], procfs.cpu_s(stack.redis.pid) - before[1]
    wanted = received["rounds"] * READERS * TOKENS
    if received["tokens"] != wanted:
        raise AssertionError(f"{side.path}: {received['tokens']:,} tokens of {wanted:,} were received")
    return Replay(received["tokens"], web_s, redis_s, received["seconds"])
