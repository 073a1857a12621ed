"""The states of a `LogCursor`.

    state           the cursor …                                                   becomes
    ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────
    SEEKING         looks for the last `restarted`, where its format has no        CATCHING_UP
                    frame for one and nothing has been sent
    CATCHING_UP     reads the log page by page                                     FOLLOWING, MISSING
    FOLLOWING       takes the entries that the live tail hands over                CATCHING_UP: entries may be missing
    MISSING         found the log gone, or ending before the position: its         FOLLOWING, CATCHING_UP: restored, or
                    worker may restore it (a lease, or while any restores)         sent from the beginning after that

    COMPLETE        has sent the last frame: the log has ended, or is gone           (final)
    ABORTED         cannot express in its format how the log went on                 (final)
    UNAVAILABLE     has waited for Redis in vain                                     (final)

`TRANSITIONS` is the same table as data, and every change of state is checked against it. Waiting for Redis is not a
state: in whatever state the cursor is, a read that failed is repeated with each tick until the grace period has passed.
"""

from enum import Enum


class State(Enum):
    """The activity of a cursor."""

    SEEKING = "seeking"
    CATCHING_UP = "catching up"
    FOLLOWING = "following"
    MISSING = "missing"
    COMPLETE = "complete"
    ABORTED = "aborted"
    UNAVAILABLE = "unavailable"


FINAL = frozenset({State.COMPLETE, State.ABORTED, State.UNAVAILABLE})

TRANSITIONS: dict[State, frozenset[State]] = {
    State.SEEKING: frozenset({State.CATCHING_UP, State.UNAVAILABLE}),
    State.CATCHING_UP: FINAL | {State.FOLLOWING, State.MISSING},
    State.FOLLOWING: FINAL | {State.CATCHING_UP},
    State.MISSING: FINAL | {State.CATCHING_UP, State.FOLLOWING},
    State.COMPLETE: frozenset(),
    State.ABORTED: frozenset(),
    State.UNAVAILABLE: frozenset(),
}
