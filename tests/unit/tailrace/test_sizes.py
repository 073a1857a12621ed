import pytest

from tailrace.sizes import size_text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"), (1, "1 bytes"), (1023, "1,023 bytes"), (1024, "1 KiB"), (1025, "1,025 bytes"),
        (64 * 1024, "64 KiB"), (8 * 1024**2, "8 MiB"), (1024**3, "1 GiB"), (1536 * 1024**2, "1536 MiB"),
    ],
)  # fmt: skip
def test_size_is_exact_in_the_largest_unit(size: int, text: str) -> None:
    assert size_text(size) == text
