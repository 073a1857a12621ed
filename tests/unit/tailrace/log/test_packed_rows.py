from tailrace.log.codec import Row, pack
from tailrace.log.packed_rows import PackedRows

ROWS = [Row(7, seq, "text:0", " wörd\x00", "" if seq % 2 else '{"a":1}') for seq in range(5)]


def test_packed_rows_are_the_rows_that_were_added_in_order_and_any_number_of_times() -> None:
    packed = PackedRows()
    assert (list(packed), len(packed), packed.size) == ([], 0, 0)
    packed.add(ROWS[:3])
    packed.add(ROWS[3:])
    assert (list(packed), list(packed), len(packed)) == (ROWS, ROWS, 5)
    assert packed.size == len(pack(ROWS[:3])) + len(pack(ROWS[3:]))
