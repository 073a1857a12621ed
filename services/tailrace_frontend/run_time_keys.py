"""The keys that were created at run time, the blocked callers and the revocations, as this process read them last."""

import time
from collections import defaultdict
from functools import lru_cache
from math import inf
from typing import Self

from tailrace.access import NOTHING, AccessState, KeyRecord
from tailrace.scopes import Scope, Scopes, scopes_of
from tailrace_frontend.api_keys import ApiKey


class RunTimeKeys:
    """One state of access, by what a request shows."""

    def __init__(self, state: AccessState = NOTHING) -> None:
        self.state = state
        self._keys = {key.digest: key for key in map(_key_of, state.keys.values())}
        self._of: dict[str, list[ApiKey]] = defaultdict(list)
        for key in self._keys.values():
            self._of[key.owner].append(key)

    def find(self, digest: bytes) -> ApiKey | None:
        """The key with this digest; it may have expired."""
        return self._keys.get(digest)

    def is_valid(self, key: ApiKey) -> bool:
        """Whether the key is still one of its caller's and has not expired."""
        known = self._keys.get(key.digest)
        return known is not None and known.owner == key.owner and time.time() < known.expires

    def of(self, owner: str) -> list[ApiKey]:
        """The valid keys of a caller."""
        now = time.time()
        return [key for key in self._of.get(owner, ()) if now < key.expires]

    def all_of(self, owner: str) -> list[ApiKey]:
        """The keys of a caller, those that have expired among them."""
        return list(self._of.get(owner, ()))

    def is_blocked(self, owner: str) -> bool:
        """Whether the operator has blocked the caller."""
        return owner in self.state.blocked

    def is_revoked(self, grant: str) -> bool:
        """Whether a grant (`tailrace.access`) was revoked."""
        return grant in self.state.revoked

    def refuses_more_than(self, earlier: Self) -> bool:
        """Whether anything that the earlier state allowed may be refused now: open streams have to be checked."""
        before, now = earlier.state, self.state
        if now.blocked.keys() - before.blocked.keys() or now.revoked.keys() - before.revoked.keys():
            return True
        return any(now.keys.get(key_id) != record for key_id, record in before.keys.items())


def _key_of(record: KeyRecord) -> ApiKey:
    """The key of a record. A scope of another release allows nothing."""
    expires = inf if record.expires is None else record.expires
    return ApiKey(record.owner, bytes.fromhex(record.digest), expires, _scopes_of(tuple(record.scopes)), record.id)


@lru_cache(maxsize=256)
def _scopes_of(names: tuple[str, ...]) -> Scopes:
    return scopes_of(name for name in names if name in set(Scope))
