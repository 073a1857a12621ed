"""Signatures of Standard Webhooks: HMAC-SHA256 over `id.timestamp.body`, under a secret `whsec_<base64>`.

A receiver accepts a message if one of its signatures matches and its timestamp is at most five minutes off.
"""

import base64
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime

from standardwebhooks import Webhook

SECRET_BYTES = 24
"""Standard Webhooks asks for 24 to 64. A multiple of three needs no padding."""


def new_secret() -> str:
    """A secret of `SECRET_BYTES` random bytes, as text: `whsec_<base64>`."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def signed_headers(webhook_id: str, at: int, body: bytes, signing_secrets: Iterable[str]) -> dict[str, str]:
    """The three headers of a message that is sent at this time (epoch seconds), with one signature for each secret."""
    sent, text = datetime.fromtimestamp(at, UTC), body.decode()
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(at),
        "webhook-signature": " ".join(Webhook(each).sign(webhook_id, sent, text) for each in signing_secrets),
    }
