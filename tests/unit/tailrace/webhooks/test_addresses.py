import pytest

from tailrace.errors import InvalidValue
from tailrace.webhooks.addresses import MAX_URL, check_url, is_public

PUBLIC = [
    "8.8.8.8", "1.1.1.1", "2001:4860:4860::8888", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1",
    "2a00:1450::5efe:808:808", "2600::200:5efe:808:808",
]  # fmt: skip
PRIVATE = [
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "192.0.0.8", "198.18.0.1", "203.0.113.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "fc00::1",
    "fd00::1", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "2001:db8::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "192.88.99.1", "168.63.129.16", "192.0.0.192", "100.100.100.200", "fd00:ec2::254", "fe80::a9fe:a9fe",
    "::ffff:0:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "64:ff9b:1::7f00:1", "64:ff9b::a83f:8110",
    "2a00:1450::5efe:7f00:1", "2600::200:5efe:a00:1", "3fff::1", "5f00::1", "100::1", "2001:20::1",
]  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", PRIVATE)
def test_address_of_a_host_or_a_network_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "url", ["https://example.org", "https://example.org:8443/a/b?c=d", "https://8.8.8.8/", "https://[2001:4860::8888]/"]
)
def test_https_url_is_accepted(url: str) -> None:
    check_url(url, allow_private=False)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://example.org/", "must begin with https://"),
        ("ftp://example.org/", "must begin with https://"),
        ("example.org/hook", "must begin with https://"),
        ("", "must begin with https://"),
        ("https://", "must be https://"),
        ("https:///path", "must be https://"),
        ("https://user:password@example.org/", "must be https://"),
        ("https://example.org/#fragment", "must be https://"),
        ("https://example.org\\@127.0.0.1/", "must be https://"),
        ("https://example.org:99999/", "is malformed"),
        ("https://[::1/", "is malformed"),
        ("https://example.org/ a", "printable ASCII"),
        ("https://example.org/\r\nX: y", "printable ASCII"),
        ("https://exämple.org/", "printable ASCII"),
        ("https://example.org/" + "a" * MAX_URL, f"more than {MAX_URL}"),
        ("https://localhost/", "private address"),
        ("https://LOCALHOST:8443/", "private address"),
        ("https://127.0.0.1/", "private address"),
        ("https://[::1]/", "private address"),
        ("https://169.254.169.254/latest/meta-data", "private address"),
        ("https://168.63.129.16/metadata", "private address"),
        ("https://[fd00:ec2::254]/latest/meta-data", "private address"),
        ("https://[fe80::1%25eth0]/", "private address"),
        ("https://[::ffff:127.0.0.1]/", "private address"),
        ("https://[::ffff:7f00:1]/", "private address"),
        ("https://[64:ff9b::a9fe:a9fe]/", "private address"),
        ("https://localhost./", "private address"),
        ("https://api.localhost/", "private address"),
        ("https://127.0.0.1./", "private address"),
        ("https://127.1/", "private address"),
        ("https://2130706433/", "private address"),
        ("https://0x7f000001/", "private address"),
        ("https://0x7f.1/", "private address"),
        ("https://017700000001/", "private address"),
        ("https://0251.0376.0251.0376/", "private address"),
        ("https://0/", "private address"),
        ("https://example.org:0/", "must be https://"),
        ("https://example.org:-1/", "is malformed"),
        ("https://:password@example.org/", "must be https://"),
        ("https://example.org%40127.0.0.1@10.0.0.1/", "must be https://"),
    ],
)
def test_url_that_webhooks_cannot_be_sent_to_is_refused(url: str, problem: str) -> None:
    with pytest.raises(InvalidValue, match=problem) as refused:
        check_url(url, allow_private=False)
    assert refused.value.param == "url"


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/hook", "http://localhost/", "https://10.0.0.1/"])
def test_private_url_is_accepted_where_that_is_allowed(url: str) -> None:
    check_url(url, allow_private=True)


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "http://user@127.0.0.1/"])
def test_private_url_must_be_well_formed_all_the_same(url: str) -> None:
    with pytest.raises(InvalidValue):
        check_url(url, allow_private=True)
