"""Commands that an operator gives to one worker, over the channel that also has its cancels.

    drain   takes no further generation; those that run end where they are, and the process stays
    stop    as SIGTERM does: drains, hands over what still runs after `TAILRACE_DRAIN_S`, and ends the process, which
            its supervisor may start again

No generation's id is one of these words. A command may be given twice.
"""

from typing import Literal

from tailrace import keys
from tailrace.redis.server import RedisServer

WorkerCommand = Literal["drain", "stop"]


async def send_command(server: RedisServer, worker: str, command: WorkerCommand) -> bool:
    """Give a worker a command; False where it does not listen. `server`: the log's."""
    return bool(await server.execute("SPUBLISH", keys.worker(worker), command))
