"""Every Lua script: one file each under `lua/`, with its contract on top; functions of several in `lua/parts/`.

Every script may be run again with the same arguments: `redis.server` repeats a command whose reply was lost.
"""

import re
from collections.abc import Sequence
from hashlib import sha1
from importlib.resources import files
from typing import Any

Command = tuple[Any, ...]


class Script:
    """A script: its name, its text, and its SHA-1 digest, by which a server that knows the text runs it.

    `part`: the file with functions that it calls.
    """

    def __init__(self, name: str, part: str = "") -> None:
        self.name = name
        texts = files("tailrace") / "lua"
        self.text = (texts / f"{name}.lua").read_text()
        if part:
            flags, rest = re.match(r"(#![^\n]*\n)?(.*)", self.text, re.DOTALL).groups("")  # type: ignore[union-attr]
            self.text = flags + (texts / "parts" / f"{part}.lua").read_text() + rest
        self.sha = sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        TEXTS[self.sha] = self.text

    def on(self, keys: Sequence[str], *args: Any) -> Command:
        """The command that runs the script on these keys."""
        return ("EVALSHA", self.sha, len(keys), *keys, *args)


TEXTS: dict[str, str] = {}
"""Every script's text by its digest, for a server that does not know it (restart, `SCRIPT FLUSH`)."""


def with_text(command: Command) -> Command:
    """The same call with the script's text instead of its digest."""
    _, sha, *rest = command
    return ("EVAL", TEXTS[sha], *rest)


# On the log's server; KEYS are `keys.of_generation`.
CREATE = Script("create")
ACQUIRE = Script("acquire")
APPEND = Script("append")
RENEW = Script("renew")
READ_DONE = Script("read_done")
SHARE = Script("share")
DISCARD = Script("discard")
TOUCH_PRESENCE = Script("touch_presence")
REQUEUE = Script("requeue")
RESTORE = Script("restore")
FINISH = Script("finish")
DELETE = Script("delete")

# On the log's server; KEYS are one key of `log.unfinished`.
ADD_UNFINISHED = Script("add_unfinished")
SUSPECT = Script("suspect")

# On the log's server; KEYS are those of webhooks.
ADD_ENDPOINT = Script("add_endpoint")
REPLACE_ENDPOINT = Script("replace_endpoint")
ADD_WEBHOOK = Script("add_webhook")
CLAIM_WEBHOOKS = Script("claim_webhooks")

# On the log's server; KEYS are those of access.
CHANGE_ACCESS = Script("change_access")

# On the log's server; KEYS are those of the audit.
ADD_TO_AUDIT = Script("add_to_audit")

# On the queue's server.
SET_NEWEST_OF_CHAT = Script("set_newest_of_chat")
SUBMIT = Script("submit", "fair")
ENQUEUE = Script("enqueue", "fair")
TAKE = Script("take", "fair")
WITHDRAW = Script("withdraw", "fair")
UNPARK = Script("unpark", "fair")
LOAD = Script("load")
RECORD_OUTPUT = Script("record_output")
FORGET = Script("forget")
SETTLE = Script("settle")
SET_POLICY = Script("set_policy")

# On the queue's server; KEYS are those of the history.
FLUSH_STATS = Script("flush_stats")

# On the queue's server; KEYS are those of one upstream or of one caller's runs, or of the calls of all.
FAIL_CALL = Script("fail_call")
PROBE_CIRCUIT = Script("probe_circuit")
CLOSE_CIRCUIT = Script("close_circuit")
OCCUPY_SLOT = Script("occupy_slot")
RENEW_SLOTS = Script("renew_slots")
REPORT_CALLS = Script("report_calls")
