from bench.timestamps import WIDTH, find_timestamps, now_us, timestamped_text


def test_timestamp_is_found_in_its_event() -> None:
    before = now_us()
    data = f'data: {{"text":"{timestamped_text()}"}}\n\n'.encode()
    (timestamp,), rest = find_timestamps(data)
    assert before <= timestamp <= now_us()
    assert rest == b""


def test_timestamp_in_two_pieces_is_found_once() -> None:
    data = f"{timestamped_text()}{timestamped_text()}".encode()
    for cut in range(len(data) + 1):
        first, rest = find_timestamps(data[:cut])
        second, _ = find_timestamps(rest + data[cut:])
        assert len(first + second) == 2


def test_timestamp_has_a_fixed_width() -> None:
    assert len(timestamped_text()) - len(" text") == WIDTH
