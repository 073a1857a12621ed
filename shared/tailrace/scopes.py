"""What a key may do.

    read           lists, generations, event streams
    create         new generations, webhook endpoints and their changes
    cancel         cancelling and deleting
    admin:view     the state of the installation: load, workers, callers, generations without their content
    admin:operate  acts on it: draining a worker, cancelling any generation, limits (and admin:view)
    admin:content  prompts and outputs of any caller (and admin:view)
    admin          all three, and the keys

Read, create and cancel concern the caller's own generations alone. A key without scopes has these three.
"""

from collections.abc import Iterable
from enum import StrEnum


class Scope(StrEnum):
    """One scope, by its name in settings and in answers."""

    READ = "read"
    CREATE = "create"
    CANCEL = "cancel"
    ADMIN = "admin"
    ADMIN_VIEW = "admin:view"
    ADMIN_OPERATE = "admin:operate"
    ADMIN_CONTENT = "admin:content"


Scopes = frozenset[Scope]

CALLER_SCOPES: Scopes = frozenset({Scope.READ, Scope.CREATE, Scope.CANCEL})
"""Of a key that names none."""

EVERY_SCOPE: Scopes = frozenset(Scope)
"""Of open mode."""

READERS: Scopes = frozenset({Scope.READ})

IMPLIED: dict[Scope, Scopes] = {
    Scope.ADMIN: frozenset({Scope.ADMIN_VIEW, Scope.ADMIN_OPERATE, Scope.ADMIN_CONTENT}),
    Scope.ADMIN_OPERATE: frozenset({Scope.ADMIN_VIEW}),
    Scope.ADMIN_CONTENT: frozenset({Scope.ADMIN_VIEW}),
}


def scopes_of(names: Iterable[str]) -> Scopes:
    """The scopes with these names, and those that they imply.

    Raises:
        ValueError: a name is none of a scope.
    """
    named = frozenset(map(Scope, names))
    return named.union(*(IMPLIED.get(scope, frozenset()) for scope in named))


def names_of(scopes: Scopes) -> list[str]:
    """The names of the scopes, in the order of the table, without those that another one implies."""
    implied = frozenset[Scope]().union(*(IMPLIED.get(scope, frozenset()) for scope in scopes))
    return [scope.value for scope in Scope if scope in scopes - implied]
