"""What a frontend knows of keys, blocks and revocations while Redis changes, stays or is away."""

import time
from typing import Any

import pytest

from tailrace.access import AccessState, Block, KeyRecord
from tailrace.errors import RedisUnavailable
from tailrace_frontend.api_keys import digest_of
from tailrace_frontend.run_time_access import RunTimeAccess
from tailrace_frontend.run_time_keys import RunTimeKeys


def record(key_id: str = "key_1", owner: str = "zoe", secret: str = "secret-1", **fields: Any) -> KeyRecord:
    return KeyRecord(key_id, owner, digest_of(secret).hex(), "", fields.pop("scopes", ["read"]), 1, "ops", **fields)


def state_of(*records: KeyRecord, version: int = 1, **fields: Any) -> AccessState:
    return AccessState(
        version, {each.id: each for each in records}, fields.get("blocked", {}), fields.get("revoked", {})
    )


class Store:
    """A store in memory that may be away."""

    def __init__(self) -> None:
        self.state = state_of()
        self.is_away = False
        self.versions_read = 0
        self.noted: dict[str, int] = {}

    async def version(self) -> int:
        self.versions_read += 1
        if self.is_away:
            raise RedisUnavailable
        return self.state.version

    async def load(self) -> AccessState:
        return self.state

    async def note_used(self, times: dict[str, int]) -> None:
        self.noted |= times


class Frontend:
    def __init__(self) -> None:
        self.store = Store()
        self.keys = RunTimeKeys()
        self.refusals = 0
        self.access = RunTimeAccess(self.store, self._apply, self._refuse)  # type: ignore[arg-type]

    def _apply(self, keys: RunTimeKeys) -> None:
        self.keys = keys

    def _refuse(self) -> None:
        self.refusals += 1

    def knows(self, secret: str) -> bool:
        key = self.keys.find(digest_of(secret))
        return key is not None and self.keys.is_valid(key)


@pytest.fixture
def frontend() -> Frontend:
    return Frontend()


async def test_outage_keeps_the_keys_that_were_read_last(frontend: Frontend) -> None:
    frontend.store.state = state_of(record())
    await frontend.access.refresh()
    frontend.store.is_away = True
    assert await frontend.access.look_again() is False
    await frontend.access.refresh()
    assert frontend.knows("secret-1")


async def test_key_is_not_refused_before_the_first_read(frontend: Frontend) -> None:
    """It is not known yet whether it exists: 503."""
    frontend.store.is_away = True
    with pytest.raises(RedisUnavailable):
        await frontend.access.look_again()


async def test_unknown_keys_cause_few_reads(frontend: Frontend) -> None:
    await frontend.access.refresh()
    for _ in range(100):
        await frontend.access.look_again()
    assert frontend.store.versions_read < 100  # one in 0.2 s at most


async def test_streams_are_checked_where_something_may_be_refused(frontend: Frontend) -> None:
    for version, (state, refuses) in enumerate(
        [
            (state_of(record()), False),
            (state_of(record(), record("key_2", secret="secret-2")), False),
            (state_of(record("key_2", secret="secret-2")), True),
            (state_of(record("key_2", secret="secret-2", expires=int(time.time()) + 9)), True),
            (state_of(record("key_2", secret="secret-2", expires=int(time.time()) + 9), revoked={"x": 1.0}), True),
            (state_of(blocked={"zoe": Block(1, "ops")}, revoked={"x": 1.0}), True),
            (state_of(), False),
        ],
        1,
    ):
        before = frontend.refusals
        frontend.store.state = state._replace(version=version)
        await frontend.access.refresh()
        assert (frontend.refusals > before) is refuses, version


async def test_loss_of_changes_is_logged_and_followed(frontend: Frontend, caplog: pytest.LogCaptureFixture) -> None:
    frontend.store.state = state_of(record(), version=9)
    await frontend.access.refresh()
    frontend.store.state = state_of(version=0)
    await frontend.access.refresh()
    assert not frontend.knows("secret-1")
    assert "Redis has lost changes" in caplog.text


async def test_use_is_reported_for_keys_that_exist(frontend: Frontend) -> None:
    frontend.store.state = state_of(record())
    await frontend.access.refresh()
    for key_id in ("key_1", "key_gone", ""):
        frontend.access.note_used(key_id)
    await frontend.access.close()
    assert list(frontend.store.noted) == ["key_1"]


def test_expired_key_and_unknown_scope_allow_nothing() -> None:
    keys = RunTimeKeys(state_of(record(expires=1), record("key_2", secret="secret-2", scopes=["read", "fly"])))
    old, new = keys.find(digest_of("secret-1")), keys.find(digest_of("secret-2"))
    assert old is not None
    assert new is not None
    assert not keys.is_valid(old)
    assert keys.of("zoe") == [new]
    assert sorted(new.scopes) == ["read"]
