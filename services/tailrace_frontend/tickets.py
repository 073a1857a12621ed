"""Tickets: text that lets its holder read one log, signed by an HMAC with the secret of the settings.

    <owner>~<expires>~<signature>              of a key; it ends with the key
    <owner>~<expires>~token.<signature>        of a token (`tokens`); it ends when the token does
    <owner>~<expires>~shr_<id>.<signature>     of a share, which can be revoked alone; it ends where its key is revoked

`expires` in epoch seconds. The signature is over the generation's id, all of it, and what it is bound to: the digest of
the key that has issued it, also for a share.
"""

import base64
import hashlib
import hmac
from typing import NamedTuple, Self

OF_KEY, OF_TOKEN, OF_SHARE = "read", "token", "share"
SHARE_PREFIX = "shr_"


class Ticket(NamedTuple):
    """The parts of a ticket. `name`: the id of a share, `token`, or "" where a key has issued it. `expires`: 0 where
    the text has no number there."""

    owner: str
    expires: int
    name: str
    signature: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """The parts of any text."""
        owner, _, rest = text.partition("~")
        expires, _, signed = rest.partition("~")
        name, _, signature = signed.rpartition(".")
        is_number = expires.isdecimal() and expires.isascii() and len(expires) < 16
        return cls(owner, int(expires) if is_number else 0, name, signature)

    @property
    def kind(self) -> str:
        """What it was issued for."""
        if self.name.startswith(SHARE_PREFIX):
            return OF_SHARE
        return OF_TOKEN if self.name == OF_TOKEN else OF_KEY

    def __str__(self) -> str:
        return f"{self.owner}~{self.expires}~{self.name}{'.' if self.name else ''}{self.signature}"


class Tickets:
    """Issues and checks tickets; the same on every frontend with the same secret."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    def issue(self, kind: str, generation_id: str, owner: str, expires: int, bound_to: str) -> str:
        """A ticket. `bound_to`: the digest of its key, or `of_share`."""
        name = {OF_KEY: "", OF_TOKEN: OF_TOKEN, OF_SHARE: bound_to.partition("\n")[0]}[kind]
        return str(Ticket(owner, expires, name, self._sign(kind, generation_id, owner, expires, bound_to)))

    def is_signed(self, ticket: Ticket, generation_id: str, bound_to: str) -> bool:
        """Whether it was issued for this log, and bound to this."""
        expected = self._sign(ticket.kind, generation_id, ticket.owner, ticket.expires, bound_to)
        return hmac.compare_digest(expected.encode(), _bytes(ticket.signature))

    def _sign(self, kind: str, generation_id: str, owner: str, expires: int, bound_to: str) -> str:
        message = "\n".join((kind, generation_id, owner, str(expires), bound_to))
        digest = hmac.digest(self._secret, _bytes(message), hashlib.sha256)
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def of_share(share_id: str, digest: bytes) -> str:
    """What the ticket of a share is bound to. `digest`: of the key that has made the share; empty for a token."""
    return f"{share_id}\n{digest.hex()}"


def expiry_of(ticket: str) -> int:
    """When a ticket expires (epoch seconds); 0 where it has no time."""
    return Ticket.parse(ticket).expires


def _bytes(text: str) -> bytes:
    """The text as UTF-8. Clients can send lone surrogates, which the strict encoder rejects."""
    return text.encode("utf-8", "surrogatepass")
