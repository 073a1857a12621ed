"""Scopes: their names, and those that they imply."""

import pytest

from tailrace.scopes import CALLER_SCOPES, EVERY_SCOPE, Scope, names_of, scopes_of


def test_scope_has_those_that_it_implies() -> None:
    assert scopes_of(["read", "create", "cancel"]) == CALLER_SCOPES
    assert scopes_of(["admin"]) == EVERY_SCOPE - CALLER_SCOPES
    assert scopes_of(["admin:operate"]) == {Scope.ADMIN_OPERATE, Scope.ADMIN_VIEW}
    assert scopes_of(["admin:content"]) == {Scope.ADMIN_CONTENT, Scope.ADMIN_VIEW}


def test_names_are_the_fewest_that_have_the_scopes() -> None:
    assert names_of(EVERY_SCOPE) == ["read", "create", "cancel", "admin"]
    assert names_of(scopes_of(["admin:operate", "read"])) == ["read", "admin:operate"]
    for scope in Scope:
        assert scopes_of(names_of(scopes_of([scope]))) == scopes_of([scope])


@pytest.mark.parametrize("name", ["", "Read", "admin:", "write", " read"])
def test_unknown_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not a valid Scope"):
        scopes_of(["read", name])
