"""200 logs, 20 events a second, one reader each, read natively and in OpenAI's two formats.

Each format has a stack of its own, one after the other in one run. An event of the log is one frame in each format, and
the same number of texts; a frame of OpenAI's is longer.
"""

from collections.abc import Sequence

from bench.delivery import CHAT, RESPONSES, TAILRACE, deliver
from bench.measures import Finding
from bench.workloads.scattered import SCATTERED, figures


async def wires(seconds: float) -> Sequence[Finding]:
    native, chat, responses = [await deliver(side, SCATTERED, seconds) for side in (TAILRACE, CHAT, RESPONSES)]
    beside = figures("native", native) | figures("chat", chat) | figures("Responses", responses)
    return [
        Finding("wires/chat", chat.web_us() / native.web_us(), beside),
        Finding("wires/responses", responses.web_us() / native.web_us(), {}),
    ]
