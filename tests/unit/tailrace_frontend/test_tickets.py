"""What a ticket holds, and that no one else can make one that holds it."""

import pytest

from tailrace_frontend.tickets import OF_KEY, OF_SHARE, OF_TOKEN, Ticket, Tickets, expiry_of, of_share

GENERATION = "gen_abcdefghijklmnopqrstuvwxyz"
OF = Tickets("0123456789abcdef")


@pytest.mark.parametrize(
    ("kind", "bound_to"), [(OF_KEY, "ab" * 32), (OF_TOKEN, ""), (OF_SHARE, of_share("shr_abc", b"key"))]
)
def test_ticket_is_valid_as_it_was_issued_and_not_otherwise(kind: str, bound_to: str) -> None:
    text = OF.issue(kind, GENERATION, "anna", 99, bound_to)
    ticket = Ticket.parse(text)
    assert (ticket.kind, ticket.owner, ticket.expires, str(ticket)) == (kind, "anna", 99, text)
    assert OF.is_signed(ticket, GENERATION, bound_to)
    assert not OF.is_signed(ticket, GENERATION[:-1] + "a", bound_to)
    assert not OF.is_signed(ticket, GENERATION, bound_to + "x")
    assert not OF.is_signed(ticket._replace(owner="ben"), GENERATION, bound_to)
    assert not OF.is_signed(ticket._replace(expires=100), GENERATION, bound_to)
    assert not OF.is_signed(ticket._replace(signature=ticket.signature[:-1]), GENERATION, bound_to)
    assert not Tickets("another secret!!").is_signed(ticket, GENERATION, bound_to)
    for name in {"", "token", "shr_abc"} - {ticket.name}:
        assert not OF.is_signed(ticket._replace(name=name), GENERATION, bound_to)


@pytest.mark.parametrize(
    "text", ["", "~", "~~", "anna", "anna~x~y", "anna~-1~y", "anna~" + "9" * 99 + "~y", "a~²~\ud800"]
)
def test_any_text_is_parsed_and_none_of_it_is_signed(text: str) -> None:
    assert expiry_of(text) == 0
    assert not OF.is_signed(Ticket.parse(text), GENERATION, "")
