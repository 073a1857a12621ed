"""The sender against receivers on loopback, which stands for any address that is not public."""

import asyncio
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from support.webhook_receiver import Receiver, receiver
from tailrace.webhooks import Sender, Unreachable
from tailrace.webhooks import sender as sender_module

HEADERS = {"webhook-id": "wh_1"}
BODY = b'{"type": "response.completed"}'
NAME = "receiver.test"


@pytest.fixture
async def receiving() -> AsyncIterator[Receiver]:
    async with receiver() as running:
        yield running


@pytest.fixture
async def sender() -> AsyncIterator[Sender]:
    """A sender that may send to loopback."""
    sender = Sender(allow_private=True)
    yield sender
    await sender.close()


@pytest.fixture
async def guarded() -> AsyncIterator[Sender]:
    """A sender as it is in production."""
    sender = Sender(allow_private=False)
    yield sender
    await sender.close()


def resolve(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[str]:
    """Every name has these addresses; the names that are asked for."""
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, *_: Any) -> list[Any]:
        asked.append(host)
        return [
            (socket.AF_INET6 if ":" in each else socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port))
            for each in addresses
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def named(url: str) -> str:
    """The same URL with a name in place of the address."""
    return url.replace("127.0.0.1", NAME)


async def test_message_is_posted_as_it_was_signed(receiving: Receiver, sender: Sender) -> None:
    assert await sender.send("anna", f"{receiving.url}/ok?a=b", HEADERS, BODY) == 200
    (received,) = receiving.received
    assert (received.path, received.body.encode()) == ("/ok", BODY)
    assert received.headers["webhook-id"] == "wh_1"
    assert received.headers["content-type"] == "application/json"
    assert received.headers["user-agent"].startswith("Tailrace")
    assert not {"authorization", "cookie"} & received.headers.keys()


@pytest.mark.parametrize("status", [204, 400, 410, 503])
async def test_status_of_the_answer_is_returned(receiving: Receiver, sender: Sender, status: int) -> None:
    assert await sender.send("anna", f"{receiving.url}/status/{status}", HEADERS, BODY) == status


async def test_redirect_is_an_answer_and_is_not_followed(receiving: Receiver, sender: Sender) -> None:
    assert await sender.send("anna", f"{receiving.url}/redirect", HEADERS, BODY) == 302
    assert receiving.paths == ["/redirect"]


async def test_body_of_the_answer_is_not_read(receiving: Receiver, sender: Sender) -> None:
    async with asyncio.timeout(5):
        assert await sender.send("anna", f"{receiving.url}/large", HEADERS, BODY) == 200


async def test_receiver_that_does_not_answer_is_unreachable_after_the_timeout(receiving: Receiver) -> None:
    sender = Sender(allow_private=True, timeout_s=0.2)
    began = time.monotonic()
    with pytest.raises(Unreachable, match=r"no answer within 0\.2 s"):
        await sender.send("anna", f"{receiving.url}/silent", HEADERS, BODY)
    assert 0.2 <= time.monotonic() - began < 2
    await sender.close()


async def test_receiver_that_does_not_listen_is_unreachable(receiving: Receiver, sender: Sender) -> None:
    async with receiver() as other:
        url = other.url
    with pytest.raises(Unreachable, match="Connect call failed"):
        await sender.send("anna", url, HEADERS, BODY)


@pytest.mark.parametrize("url", ["https://127.1/", "https://2130706433/", "https://[::1/", "no url", "ftp://x/"])
async def test_url_that_is_none_is_unreachable(sender: Sender, url: str) -> None:
    with pytest.raises(Unreachable):
        await sender.send("anna", url, HEADERS, BODY)


async def test_slow_names_of_an_owner_do_not_delay_those_of_another(
    receiving: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A DNS server answers when its operator wants it to, and `getaddrinfo` cannot be cancelled."""
    answer = threading.Event()

    def getaddrinfo(host: str, port: int, *_: Any) -> list[Any]:
        if host.startswith("slow"):
            answer.wait(20)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    sender = Sender(allow_private=True, timeout_s=0.3)
    slow = [receiving.url.replace("127.0.0.1", f"slow-{n}.test") for n in range(40)]
    sent = await asyncio.gather(*(sender.send("anna", url, HEADERS, BODY) for url in slow), return_exceptions=True)
    assert {str(each) for each in sent} == {"no answer within 0.3 s"}
    for owner in ("ben", "carol"):
        assert await sender.send(owner, named(f"{receiving.url}/ok"), HEADERS, BODY) == 200
    answer.set()
    await sender.close()


async def test_name_without_an_address_is_unreachable(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*_: Any) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(Unreachable, match=r"^the name has no public address$"):
        await sender.send("anna", f"https://{NAME}/", HEADERS, BODY)


async def test_reason_has_neither_the_path_nor_the_answer(sender: Sender) -> None:
    """The path of a URL may be a receiver's secret, and so may the answer. The texts of aiohttp's errors have both."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nsecret answer\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Unreachable, match=r"^ClientResponseError$"):
            await sender.send("anna", f"http://127.0.0.1:{port}/secret?token=secret", HEADERS, BODY)


@pytest.mark.parametrize(
    "url",
    ["https://[::1/secret", "no url/secret", "ftp://x/secret", "http://127.0.0.1:9/secret", "https://a..b/secret"],
)
async def test_reason_does_not_repeat_the_url(sender: Sender, url: str) -> None:
    with pytest.raises(Unreachable) as unreachable:
        await sender.send("anna", url, HEADERS, BODY)
    assert "secret" not in str(unreachable.value)


async def test_proxy_of_the_environment_is_not_used(
    receiving: Receiver, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert await sender.send("anna", f"{receiving.url}/ok", HEADERS, BODY) == 200


# Addresses


async def test_private_address_in_the_url_is_not_connected_to(receiving: Receiver, guarded: Sender) -> None:
    with pytest.raises(Unreachable, match=r"^the name has no public address$"):
        await guarded.send("anna", f"{receiving.url}/ok", HEADERS, BODY)
    assert receiving.received == []


LOOPBACK = [
    "localhost", "localhost.", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.1", "017700000001", "0177.0.0.1",
    "0", "0.0.0.0", "127.0.0.1.", "%31%32%37.0.0.1", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]",
    "[0:0:0:0:0:ffff:7f00:0001]", "user:password@127.0.0.1",
]  # fmt: skip
"""Loopback as resolvers read it. What registration refuses of it, an older version may have stored."""


@pytest.mark.parametrize("host", LOOPBACK)
async def test_other_notation_of_a_private_address_is_not_connected_to(guarded: Sender, host: str) -> None:
    connections = 0

    def count(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.close()

    async with await asyncio.start_server(count, None, 0, family=socket.AF_INET) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Unreachable, match=r"no public address|DNSError|^InvalidUrl"):
            await guarded.send("anna", f"http://{host}:{port}/ok", HEADERS, BODY)
    assert connections == 0


PRIVATE = [
    "169.254.169.254", "168.63.129.16", "100.100.100.200", "10.0.0.1", "fd00:ec2::254", "fe80::1%1", "::ffff:10.0.0.1",
    "64:ff9b::a9fe:a9fe", "64:ff9b:1::a9fe:a9fe", "2002:a9fe:a9fe::1", "2600::5efe:a9fe:a9fe", "0.0.0.0", "::",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
async def test_name_of_a_metadata_or_link_local_address_opens_no_socket(
    guarded: Sender, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    resolve(monkeypatch, address)
    opened: list[Any] = []
    monkeypatch.setattr(socket, "socket", lambda *given: opened.append(given))
    with pytest.raises(Unreachable, match=r"^the name has no public address$"):
        await guarded.send("anna", f"https://{NAME}/", HEADERS, BODY)
    assert opened == []


async def test_redirect_to_a_private_address_is_not_followed(
    receiving: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first address is taken for a public one, so that only the redirect leads to a private one."""
    resolve(monkeypatch, "127.0.0.1")
    checked: list[str] = []

    def is_public(address: str) -> bool:
        checked.append(address)
        return True

    monkeypatch.setattr(sender_module, "is_public", is_public)
    sender = Sender(allow_private=False)
    assert await sender.send("anna", named(f"{receiving.url}/redirect"), HEADERS, BODY) == 302
    assert (checked, receiving.paths) == (["127.0.0.1"], ["/redirect"])
    await sender.close()


async def test_name_that_changes_its_address_after_the_check_gains_nothing(
    receiving: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: the first answer is public, each later one is not. The second message is refused."""
    answers = iter(["127.0.0.1", *["127.0.0.2"] * 9])

    def getaddrinfo(_: str, port: int, *__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(sender_module, "is_public", lambda address: address == "127.0.0.1")
    guarded = Sender(allow_private=False)
    assert await guarded.send("anna", named(f"{receiving.url}/ok"), HEADERS, BODY) == 200
    with pytest.raises(Unreachable, match=r"^the name has no public address$"):
        await guarded.send("anna", named(f"{receiving.url}/ok"), HEADERS, BODY)
    assert receiving.paths == ["/ok"]
    await guarded.close()


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["127.0.0.1", "::1"], ["::ffff:127.0.0.1"]])
async def test_name_of_a_private_address_is_not_connected_to(
    receiving: Receiver, guarded: Sender, monkeypatch: pytest.MonkeyPatch, addresses: list[str]
) -> None:
    resolve(monkeypatch, *addresses)
    with pytest.raises(Unreachable, match=r"^the name has no public address$"):
        await guarded.send("anna", named(receiving.url), HEADERS, BODY)
    assert receiving.received == []


async def test_name_is_resolved_once_for_the_check_and_the_connection(
    receiving: Receiver, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that resolves to another address a moment later (DNS rebinding) gains nothing."""
    asked, checked = resolve(monkeypatch, "127.0.0.1"), []

    def is_public(address: str) -> bool:
        checked.append(address)
        return True

    monkeypatch.setattr(sender_module, "is_public", is_public)
    guarded = Sender(allow_private=False)
    assert await guarded.send("anna", named(f"{receiving.url}/ok"), HEADERS, BODY) == 200
    assert (asked, checked) == ([NAME], ["127.0.0.1"])
    assert receiving.received[0].headers["host"] == NAME + receiving.url.removeprefix("http://127.0.0.1")
    await guarded.close()


async def test_name_of_a_private_and_a_public_address_is_reached_under_the_public_one(
    receiving: Receiver, guarded: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve(monkeypatch, "127.0.0.2", "127.0.0.1")
    monkeypatch.setattr(sender_module, "is_public", lambda address: address == "127.0.0.1")
    assert await guarded.send("anna", named(f"{receiving.url}/ok"), HEADERS, BODY) == 200


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for NAME, with its key in the same file."""
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", str(folder / "key"), "-out", str(folder / "certificate"), "-days", "2",
            "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}",
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    both = folder / "both.pem"
    both.write_text((folder / "key").read_text() + (folder / "certificate").read_text())
    return both


@pytest.fixture
async def receiving_tls(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Receiver]:
    """A receiver for NAME, whose certificate a sender trusts."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    trusting = ssl.create_default_context(cafile=str(certificate))
    monkeypatch.setattr("aiohttp.connector._SSL_CONTEXT_VERIFIED", trusting)
    async with receiver(context) as running:
        yield running


async def test_certificate_is_verified_against_the_name_of_the_url(
    receiving_tls: Receiver, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve(monkeypatch, "127.0.0.1")
    port = urlsplit(receiving_tls.url).port
    assert await sender.send("anna", f"https://{NAME}:{port}/ok", HEADERS, BODY) == 200
    for other in (f"https://other.test:{port}/ok", f"https://127.0.0.1:{port}/ok"):
        with pytest.raises(Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
            await sender.send("anna", other, HEADERS, BODY)
    assert receiving_tls.paths == ["/ok"]


async def test_certificate_that_is_not_trusted_is_refused(certificate: Path, sender: Sender) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    async with receiver(context) as running:
        with pytest.raises(Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
            await sender.send("anna", f"{running.url}/ok", HEADERS, BODY)
        assert running.received == []


async def test_sender_that_was_never_used_is_closed_all_the_same() -> None:
    await Sender(allow_private=False).close()
