"""The limits of callers, which operators change at run time: the settings, and for each caller what its policy changes.

    write    set_policy.lua   sets one policy, the version of all of them, and publishes that
    read     CallerPolicies   reads them when that is published, after a reconnection, and every `REREAD_S` where the
                              version has changed

So a change holds in every process within a round trip, and where its message is lost, within `REREAD_S`. While the
server is away the policies that were read last stay in use. A server that comes back without its data has no policies:
then the settings hold.
"""

import asyncio
import contextlib
import logging
import random
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import msgspec

from tailrace import keys, scripts
from tailrace.errors import InvalidBody, InvalidValue, RedisRefused, Unavailable
from tailrace.queue.quotas import Budgets, nano_dollars
from tailrace.queue.rights import GREATEST_WEIGHT, LEAST_WEIGHT, Right, rights_from
from tailrace.redis.channels import Channels
from tailrace.redis.outage import level_of
from tailrace.redis.server import RedisServer
from tailrace.settings import Settings

REREAD_S = 3.0
NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
VERSION = b""
"""The field of the hash that has the version of all policies."""

Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
PositiveCount = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
Dollars = Annotated[float, msgspec.Meta(ge=0, le=1e6)]

logger = logging.getLogger(__name__)


class CallerPolicy(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What an operator has set for one caller. None: as the settings have it.

    `weight`, `max_running`: its share of the workers, and generations that run at once. Of `max_running`, the tokens a
    minute and the budgets, 0 is no limit. Days and months are UTC's.
    """

    weight: Annotated[float, msgspec.Meta(ge=LEAST_WEIGHT, le=GREATEST_WEIGHT)] | None = None
    max_running: Count | None = None
    requests_per_minute: Annotated[int, msgspec.Meta(ge=1, le=10**9)] | None = None
    tokens_per_minute: Count | None = None
    max_unfinished: PositiveCount | None = None
    max_readers: PositiveCount | None = None
    max_stored_bytes: PositiveCount | None = None
    models: list[str] | None = None
    budget_day_tokens: Count | None = None
    budget_day_usd: Dollars | None = None
    budget_month_tokens: Count | None = None
    budget_month_usd: Dollars | None = None


NO_POLICY = CallerPolicy()
Policies = Mapping[str, CallerPolicy]


class CallerLimits(msgspec.Struct, frozen=True):
    """The limits of one caller that hold now. `models`: of its own list; None: the setting's."""

    requests_per_minute: int
    tokens_per_minute: int
    max_unfinished: int
    max_readers: int
    max_stored_bytes: int
    budget_day_tokens: int
    budget_day_usd: float
    budget_month_tokens: int
    budget_month_usd: float
    models: list[str] | None = None

    @classmethod
    def of(cls, settings: Settings, policy: CallerPolicy = NO_POLICY) -> "CallerLimits":
        """The settings, with what the policy changes."""
        defaults = {name: getattr(settings, setting) for name, setting in SETTINGS.items()}
        chosen = {name: value for name in SETTINGS if (value := getattr(policy, name)) is not None}
        return cls(**defaults | chosen, models=policy.models)

    @property
    def budgets(self) -> Budgets:
        return Budgets(
            self.budget_day_tokens, nano_dollars(self.budget_day_usd),
            self.budget_month_tokens, nano_dollars(self.budget_month_usd),
        )  # fmt: skip


SETTINGS = {
    "requests_per_minute": "max_requests_per_minute_per_caller",
    "tokens_per_minute": "max_tokens_per_minute_per_caller",
    "max_unfinished": "max_unfinished_per_caller",
    "max_readers": "max_readers_per_caller",
    "max_stored_bytes": "max_stored_bytes_per_caller",
    "budget_day_tokens": "budget_day_tokens_per_caller",
    "budget_day_usd": "budget_day_usd_per_caller",
    "budget_month_tokens": "budget_month_tokens_per_caller",
    "budget_month_usd": "budget_month_usd_per_caller",
}
"""Each limit, and the setting that is its default."""

LimitsOf = Callable[[str], CallerLimits]
"""The limits of a caller, by name."""


def limits_of_settings(settings: Settings) -> LimitsOf:
    """The same limits for every caller: for processes that know no policies."""
    limits = CallerLimits.of(settings)
    return lambda _: limits


class CallerPolicies:
    """The policies as this process has read them last. `on_change` is called after each change, with the callers whose
    policies have changed."""

    def __init__(self, server: RedisServer, settings: Settings) -> None:
        self._server = server
        self._settings = settings
        self._default = CallerLimits.of(settings)
        self._right_by_settings = rights_from(settings)
        self._version: bytes | None = None
        self._policies: dict[str, CallerPolicy] = {}
        self._limits: dict[str, CallerLimits] = {}
        self._stored: dict[str, bytes] = {}
        self._is_known = asyncio.Event()
        self._changed = asyncio.Event()
        self.on_change: list[Callable[[frozenset[str]], None]] = []

    # ── what holds now ──────────────────────────────────────────────────────────────────────────────────────────────

    def of(self, caller: str) -> CallerLimits:
        """The limits of a caller."""
        return self._limits.get(caller, self._default)

    def policy(self, caller: str) -> CallerPolicy:
        """What is set for a caller."""
        return self._policies.get(caller, NO_POLICY)

    def right_of(self, caller: str) -> Right:
        """What the caller may have of the workers."""
        right, policy = self._right_by_settings(caller), self.policy(caller)
        return Right(
            right.weight if policy.weight is None else policy.weight,
            right.max_running if policy.max_running is None else policy.max_running,
        )

    @property
    def all(self) -> Policies:
        """Every policy, by its caller."""
        return self._policies

    # ── changes ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def put(self, caller: str, policy: CallerPolicy) -> CallerPolicy:
        """Set the policy of a caller, whatever it was. One that changes nothing is no policy.

        Raises:
            RedisUnavailable, RedisFull, RedisRefused: it may have been set; repeat it.
        """
        await self._set(caller, policy, b"*")
        await self.refresh()
        return policy

    async def patch(self, caller: str, changes: Mapping[str, Any]) -> CallerPolicy:
        """Change these fields of a caller's policy; None: as the settings have it. Changes of others at the same time
        are kept.

        Raises:
            InvalidValue: as `parse_policy`.
            RedisUnavailable, RedisFull, RedisRefused: as `put`.
        """
        while True:
            stored: bytes = await self._server.execute("HGET", keys.CALLERS, caller) or b""
            known = msgspec.to_builtins(_decoded(stored)) if stored else {}
            policy = parse_policy({name: value for name, value in {**known, **changes}.items() if value is not None})
            if await self._set(caller, policy, stored):
                await self.refresh()
                return policy

    async def remove(self, caller: str) -> None:
        """Have the settings hold for a caller.

        Raises:
            RedisUnavailable, RedisFull, RedisRefused: as `put`.
        """
        await self.put(caller, NO_POLICY)

    async def _set(self, caller: str, policy: CallerPolicy, replaces: bytes) -> bool:
        encoded = b"" if policy == NO_POLICY else msgspec.json.encode(policy)
        command = scripts.SET_POLICY.on([keys.CALLERS], caller, encoded, replaces, keys.CALLERS_CHANGED)
        (outcome,) = await self._server.execute(*command)
        return bool(outcome == b"OK")

    # ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def listen(self, subscriber: Channels) -> None:
        """Receive changes on a connection to the queue's server."""
        subscriber.add(keys.CALLERS_CHANGED, lambda _: self._changed.set())

    async def run(self) -> None:
        """Read the policies until cancelled."""
        while True:
            self._changed.clear()
            try:
                await self.refresh()
            except (Unavailable, RedisRefused) as error:
                logger.log(level_of(error), "policies of callers: %s: %s", type(error).__name__, error)
            except Exception:
                logger.exception("policies of callers")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REREAD_S * random.uniform(0.75, 1.25)):  # noqa: S311 - spreads load
                    await self._changed.wait()

    async def refresh(self) -> None:
        """Read the policies, if they have changed.

        Raises:
            RedisUnavailable, RedisRefused: those that were read last stay.
        """
        version = await self._server.execute("HGET", keys.CALLERS, VERSION) or b""
        if version != self._version:
            await self._read_all()
        self._is_known.set()

    async def wait_until_known(self) -> None:
        """Wait until `run` has read them for the first time."""
        await self._is_known.wait()

    async def _read_all(self) -> None:
        flat = await self._server.execute("HGETALL", keys.CALLERS)
        stored = dict(zip(flat[::2], flat[1::2], strict=True))
        self._version = stored.pop(VERSION, b"")
        self._take({name.decode(): value for name, value in stored.items()})

    def _take(self, stored: dict[str, bytes]) -> None:
        """Use these policies. One that cannot be read is of a later version: the one before stays."""
        changed = frozenset(
            name for name in stored.keys() | self._stored.keys() if stored.get(name) != self._stored.get(name)
        )
        for name in changed:
            if name not in stored:
                self._policies.pop(name, None)
                self._limits.pop(name, None)
            elif policy := _read(name, stored[name]):
                self._policies[name] = policy
                self._limits[name] = CallerLimits.of(self._settings, policy)
        self._stored = stored
        if changed:
            logger.info("limits of callers changed: %s", ", ".join(sorted(changed)[:20]))
            for listener in self.on_change:
                listener(changed)


def parse_policy(given: Mapping[str, Any]) -> CallerPolicy:
    """A policy from decoded JSON.

    Raises:
        InvalidValue: a field is unknown, or its value is not allowed.
    """
    unknown = next((name for name in given if name not in CallerPolicy.__struct_fields__), None)
    if unknown is not None:
        raise InvalidValue.at(str(unknown)[:100], "there is no such limit.")
    for name, value in given.items():
        try:
            msgspec.convert({name: value}, CallerPolicy)
        except msgspec.ValidationError as error:
            raise InvalidValue.at(name, f"{str(error).partition(' - at ')[0]}.") from None
    return msgspec.convert(dict(given), CallerPolicy)


def check_caller(name: str) -> str:
    """The name of a caller, if it can be one.

    Raises:
        InvalidBody: it cannot.
    """
    if not NAME.fullmatch(name):
        raise InvalidBody("A caller's name has 1 to 64 letters, digits, `_`, `.` and `-`.")
    return name


def _decoded(stored: bytes) -> CallerPolicy:
    return msgspec.json.decode(stored, type=CallerPolicy)


def _read(name: str, stored: bytes) -> CallerPolicy | None:
    try:
        return _decoded(stored)
    except msgspec.MsgspecError as error:
        logger.error("the policy of %s cannot be read: %s", name, error)
        return None
