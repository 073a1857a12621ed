"""Signatures of Standard Webhooks: HMAC-SHA256 over `id.timestamp.body`, under a secret `whsec_<base64>`.

A receiver accepts a message if one of its signatures matches and its timestamp is at most five minutes off.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable

PREFIX = "whsec_"
SECRET_BYTES = 24
"""Standard Webhooks asks for 24 to 64. A multiple of three needs no padding."""


def new_secret() -> str:
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def signed_headers(webhook_id: str, at: int, body: bytes, signing_secrets: Iterable[str]) -> dict[str, str]:
    """The three headers of a message that is sent at this time (epoch seconds), with one signature for each secret."""
    content = f"{webhook_id}.{at}.".encode() + body
    signatures = (hmac.digest(_key(each), content, hashlib.sha256) for each in signing_secrets)
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(at),
        "webhook-signature": " ".join(f"v1,{base64.b64encode(each).decode()}" for each in signatures),
    }


def _key(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix(PREFIX))
