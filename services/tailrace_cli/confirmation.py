"""A question before an act that ends something."""

import asyncio
import sys

from tailrace.errors import InvalidRequest
from tailrace_cli.terminal import one_line

YES = ("y", "yes")


async def confirmed(question: str) -> bool:
    """Ask on the terminal; whether the answer is yes.

    Raises:
        InvalidRequest: there is no terminal to ask on.
    """
    if not sys.stdin.isatty():
        raise InvalidRequest(f"{one_line(question)} There is no terminal to ask on; --yes answers yes")
    sys.stderr.write(f"{one_line(question)} [y/N] ")
    sys.stderr.flush()
    answer = await asyncio.to_thread(sys.stdin.readline)
    return answer.strip().lower() in YES
