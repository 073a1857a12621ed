"""Mutants: the product without one of its guards must fail a scenario.

Each guard is removed from a copy of the sources, and its scenario is played on that copy. A mutant that survives means
that no test would notice the loss of its guard.
"""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
SOURCES = ("shared", "services")


class Edit(NamedTuple):
    """A guard's file and text, and what replaces it."""

    path: str
    guard: str
    without: str = ""


class Mutant(NamedTuple):
    """The edits that remove a guard, and the scenario that must fail without it."""

    scenario: str
    edits: Sequence[Edit]


FENCED = "if epoch < tonumber(known[1]) then return {'FENCED'} end\n"
BEHIND = "if after_seq > seq then return {'BEHIND', seq} end\n"

MUTANTS: dict[str, Mutant] = {
    "fence": Mutant(
        "zombies", [Edit(f"shared/tailrace/lua/{script}.lua", FENCED) for script in ("append", "renew", "finish")]
    ),
    "behind": Mutant("redis-kills", [Edit("shared/tailrace/lua/append.lua", BEHIND)]),
    "dense numbers, live": Mutant(
        "slow-readers",
        [
            Edit(
                "services/tailrace_frontend/streaming/live_tail.py",
                "if not entries[first].is_contiguous_after(position):",
                "if False:",
            ),
            Edit(
                "services/tailrace_frontend/streaming/log_cursor.py",
                "if before_seq == self.position.seq and",
                "if before_seq >= self.position.seq and",
            ),
        ],
    ),
    "dense numbers, catching up": Mutant(
        "rolled-back-orphans",
        [
            Edit(
                "services/tailrace_frontend/streaming/log_cursor.py",
                "        if page.before != self.position.seq:\n            return self._restart()\n",
            )
        ],
    ),
    "token of the run": Mutant(
        "same-job",
        [Edit("services/tailrace_worker/generation_run.py", 'token = f"{job_id}/{new_token()}"', "token = job_id")],
    ),
    "hold-off": Mutant(
        "rolled-back-end",
        [
            Edit(
                "shared/tailrace/lifecycle/sweeper.py",
                "        return run.age_s < max(self._lease_s, CONFIRM_S) + HOLD_OFF_S\n",
                "        return False\n",
            )
        ],
    ),
    "confirmation of cancels": Mutant(
        "rolled-back-cancel",
        [Edit("services/tailrace_frontend/services.py", ', "confirmations": self.confirmations.run')],
    ),
    "confirmation of deletions": Mutant(
        "rolled-back-delete",
        [Edit("shared/tailrace/lifecycle/confirmation.py", "        self.keep(Deletion(state))\n")],
    ),
    "an end is charged once": Mutant(
        "charges",
        [
            Edit(
                "shared/tailrace/lua/settle.lua",
                "is_new = redis.call('ZADD', settled, 'NX', string.format('%.0f', now), generation_id) == 1\n",
            )
        ],
    ),
    "quarantined run one at a time": Mutant(
        "poison",
        [
            Edit(
                "services/tailrace_worker/job_runner.py",
                "if is_quarantined and self._quarantined and",
                "if not job_id and self._quarantined and",
            )
        ],
    ),
    "neighbours of a dead worker are spared": Mutant(
        "kill-storm",
        [Edit("shared/tailrace/lifecycle/limits.py", "return state.neighbours > 0 and", "return False and")],
    ),
    "index of the unfinished beside the logs": Mutant(
        "queue-flushed",
        [
            Edit(
                "shared/tailrace/log/unfinished.py",
                'return ("SADD", self._set_of(generation_id), generation_id)',
                'return ("PING",)',
            )
        ],
    ),
    "a repetition gets its generation": Mutant(
        "retry-storm",
        [
            Edit(
                "services/tailrace_frontend/http/openai/retries.py",
                '    return IdempotencyKey(f"retry {digest}", body, options.deadline_s + RETRY_WINDOW_S, '
                'is_new=not count.strip("0"))\n',
                "    return None\n",
            )
        ],
    ),
    "queries are in no log": Mutant(
        "worker-kills",
        [
            Edit(
                "services/tailrace_frontend/access_log.py",
                '"%s %s %d", method, path, status)',
                '"%s %s %d", method, target, status)',
            )
        ],
    ),
    "numbers inside of an entry": Mutant(
        "resume-equality",
        [Edit("shared/tailrace/wire/__init__.py", "        after_number=openai_responses.after_number,\n")],
    ),
    "chat chunks are not joined": Mutant(
        "resume-equality",
        [
            Edit(
                "shared/tailrace/wire/__init__.py",
                "        coalesces=False,\n        ends_at=(Done, Restarted),\n",
                "        ends_at=(Done, Restarted),\n",
            )
        ],
    ),
    "a webhook's id follows from its end": Mutant(
        "openai-cancel-races",
        [
            Edit(
                "shared/tailrace/webhooks/events.py",
                'return "wh_" + _hash(generation_id, type_, endpoint_id)',
                'return "wh_" + _hash(new_generation_id())',
            )
        ],
    ),
    "foreground ends without its client": Mutant(
        "client-gone",
        [
            Edit(
                "services/tailrace_frontend/http/openai/chat.py", 'on_disconnect="cancel"', 'on_disconnect="continue"'
            ),
            Edit(
                "services/tailrace_frontend/http/openai/response_body.py",
                '"continue" if checked.background else "cancel"',
                '"continue"',
            ),
        ],
    ),
    "no more run than may": Mutant(
        "caller-limits",
        [Edit("shared/tailrace/lua/take.lua", "if redis.call('ZCARD', running) >= limit then", "if false then")],
    ),
    "a run counts for as long as it lasts": Mutant(
        "caller-limits",
        [
            Edit(
                "services/tailrace_worker/worker.py",
                "                await self.queue.jobs.renew(self.job_runner.held)\n",
            )
        ],
    ),
    "a run counts until its worker has ended it": Mutant(
        "caller-limits",
        [
            Edit(
                "shared/tailrace/lua/withdraw.lua", "local ended = has_ended and redis.call", "local ended = redis.call"
            )
        ],
    ),
    "a stopping frontend is not ready": Mutant(
        "rollouts",
        [
            Edit(
                "services/tailrace_frontend/frontend_reports.py",
                '        if self._hub.draining:\n            raise Unavailable("This frontend is stopping.")\n',
            )
        ],
    ),
    "an end may exceed the memory": Mutant(
        "out-of-memory", [Edit("shared/tailrace/lua/finish.lua", "#!lua flags=allow-oom\n", "#!lua\n")]
    ),
}


@contextmanager
def sources_without(mutant: Mutant) -> Iterator[list[Path]]:
    """The source roots of a copy without the guard."""
    with tempfile.TemporaryDirectory(prefix="tailrace-mutant-") as folder:
        for source in SOURCES:
            shutil.copytree(ROOT / source, Path(folder) / source, ignore=shutil.ignore_patterns("__pycache__"))
        for edit in mutant.edits:
            patched = Path(folder) / edit.path
            text = patched.read_text()
            assert edit.guard in text, f"{edit.path} has no {edit.guard!r} any more"
            patched.write_text(text.replace(edit.guard, edit.without, 1))
        yield [Path(folder) / source for source in SOURCES]
