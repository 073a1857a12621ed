"""Sizes in messages: `8 MiB` and not `8388608 bytes`."""

UNITS = (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024))


def size_text(size: int) -> str:
    """The size in the largest unit that has it exactly."""
    for name, unit in UNITS:
        if size and size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size:,} bytes"
