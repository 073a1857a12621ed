"""The Lua scripts: of the log, and `take` of the queue: one file each under `lua/`, the contract on top of it.

Every script may be retried freely: that is what each of them is written for.
"""

from collections.abc import Sequence
from hashlib import sha1
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from tailrace import keys
from tailrace.redis.pipeline import Pipeline


class Script:
    """A script, called by its digest; a server that forgot it (restart, `SCRIPT FLUSH`) is sent the text."""

    def __init__(self, name: str) -> None:
        self.text = (files("tailrace") / "lua" / f"{name}.lua").read_text()
        self.sha = sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    async def __call__(self, redis: Redis, generation_id: str, *args: Any) -> list[Any]:
        return await self.on(redis, keys.of_generation(generation_id), *args)

    async def on(self, redis: Redis, on: Sequence[str], *args: Any) -> list[Any]:
        """Call it on these keys."""
        try:
            answer: list[Any] = await redis.execute_command("EVALSHA", self.sha, len(on), *on, *args)
        except NoScriptError:
            answer = await redis.execute_command("EVAL", self.text, len(on), *on, *args)
        return answer

    async def gather(self, pipeline: Pipeline, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        """Many calls, each on its own generation, in one round trip; a failed one yields its exception.

        Raises:
            RedisError, OSError: the server could not be reached; whether the calls were carried out is unknown.
        """
        answers = await pipeline.execute(
            [("EVALSHA", self.sha, 4, *keys.of_generation(generation_id), *args) for generation_id, args in calls]
        )
        again = [i for i, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if again:
            await pipeline.execute([("SCRIPT", "LOAD", self.text)])
            for i, answer in zip(again, await self.gather(pipeline, [calls[i] for i in again]), strict=True):
                answers[i] = answer
        return answers


CREATE = Script("create")
ACQUIRE = Script("acquire")
APPEND = Script("append")
RENEW = Script("renew")
TOUCH_PRESENCE = Script("touch_presence")
REQUEUE = Script("requeue")
RESTORE = Script("restore")
FINISH = Script("finish")
DELETE = Script("delete")
TAKE = Script("take")
