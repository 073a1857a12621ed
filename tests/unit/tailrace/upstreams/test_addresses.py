"""The address of an upstream: every one that is accepted is one that the worker's HTTP client can call."""

import httpx2
import pytest

from tailrace.upstreams.addresses import MAX_CHARACTERS, is_address


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:8000/v1",
        "https://api.openai.com/v1",
        "http://[::1]:8000/v1",
        "http://xn--n3h.example",
        " http://a ",
    ],
)
def test_address_with_a_host_and_a_scheme_is_one(address: str) -> None:
    assert is_address(address)
    assert httpx2.URL(address.strip()).host


@pytest.mark.parametrize(
    "address",
    [
        "", "a", "a/v1", "ftp://a/v1", "http://", "http:///v1", "http://a:0/v1", "http://a:x/v1", "http://[::1/v1",
        "http://a b/v1", "http://a/v\n1", "http://a/v\x001", "http://☃.example/v1", "http://a/" + "x" * MAX_CHARACTERS,
    ],
)  # fmt: skip
def test_what_no_client_can_call_is_none(address: str) -> None:
    assert not is_address(address)
