from bench.timestamps import WIDTH, found, now_us, stamped


def test_timestamp_is_found_in_its_event() -> None:
    before = now_us()
    data = f'data: {{"text":"{stamped()}"}}\n\n'.encode()
    (stamp,), rest = found(data)
    assert before <= stamp <= now_us()
    assert rest == b""


def test_timestamp_in_two_pieces_is_found_once() -> None:
    data = f"{stamped()}{stamped()}".encode()
    for cut in range(len(data) + 1):
        first, rest = found(data[:cut])
        second, _ = found(rest + data[cut:])
        assert len(first + second) == 2


def test_timestamp_has_a_fixed_width() -> None:
    assert len(stamped()) - len(" told") == WIDTH
