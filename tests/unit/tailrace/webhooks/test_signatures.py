import base64
import time

import openai
import pytest

from tailrace.webhooks.events import event_body
from tailrace.webhooks.signatures import SECRET_BYTES, new_secret, signed_headers

BODY = event_body("gen_abcdefghijklmnopqrstuvwxyz", "response.completed", 1_795_235_902.1)
CLIENT = openai.OpenAI(api_key="none")


def test_signature_is_that_of_the_specification() -> None:
    """The example that the libraries of Standard Webhooks test themselves with."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    headers = signed_headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}', [secret])
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_secret_has_the_prefix_and_enough_random_bytes() -> None:
    secrets = {new_secret() for _ in range(100)}
    assert len(secrets) == 100
    for secret in secrets:
        assert secret.startswith("whsec_")
        assert len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) == SECRET_BYTES >= 24


def test_message_is_accepted_by_the_sdk_under_each_of_its_secrets() -> None:
    secrets = [new_secret(), new_secret()]
    headers = signed_headers("wh_1", int(time.time()), BODY, secrets)
    for secret in secrets:
        event = CLIENT.webhooks.unwrap(BODY, headers, secret=secret)
        assert event.type == "response.completed"
        assert event.data.id == "resp_abcdefghijklmnopqrstuvwxyz"


@pytest.mark.parametrize("changed", ["secret", "body", "id", "timestamp"])
def test_message_that_was_changed_is_refused_by_the_sdk(changed: str) -> None:
    secret, now = new_secret(), int(time.time())
    headers = signed_headers("wh_1", now, BODY, [secret])
    body = BODY
    match changed:
        case "secret":
            secret = new_secret()
        case "body":
            body = BODY.replace(b"completed", b"cancelled")
        case "id":
            headers |= {"webhook-id": "wh_2"}
        case "timestamp":
            headers |= {"webhook-timestamp": str(now + 1)}
    with pytest.raises(openai.InvalidWebhookSignatureError):
        CLIENT.webhooks.verify_signature(body, headers, secret=secret)


def test_message_that_is_too_old_is_refused_by_the_sdk() -> None:
    secret = new_secret()
    headers = signed_headers("wh_1", int(time.time()) - 301, BODY, [secret])
    with pytest.raises(openai.InvalidWebhookSignatureError, match="too old"):
        CLIENT.webhooks.verify_signature(BODY, headers, secret=secret)
