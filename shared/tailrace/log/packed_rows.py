"""Rows of a log in little memory, for a process that keeps them in case Redis loses them."""

from collections.abc import Iterator, Sequence

from tailrace.log.codec import Row, pack, unpack


class PackedRows:
    """Rows of a log in a tenth of their memory, which the garbage collector does not visit. `size`: in bytes."""

    def __init__(self) -> None:
        self._pages: list[bytes] = []
        self._count = 0
        self.size = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Row]:
        for page in self._pages:
            yield from unpack(page)

    def add(self, rows: Sequence[Row]) -> None:
        """Add the rows that follow."""
        page = pack(rows)
        self._pages.append(page)
        self._count += len(rows)
        self.size += len(page)
