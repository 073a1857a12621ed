"""Every kind of key on every route, with its caller's objects and with another's: who may do what.

The routes are those of the application, so a new one is among them; it has to declare a scope that its method and path
explain. Bodies are invalid on purpose, and ids of operators' routes name nothing: what is allowed gets as far as that.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest
import pytest_asyncio

from support.api import Api
from support.product import Product
from support.routes import declared_scopes
from tailrace.ids import CHAT_COMPLETION_PREFIX, RESPONSE_PREFIX
from tailrace.scopes import CALLER_SCOPES, READERS, Scope, Scopes, scopes_of
from tailrace.settings import Settings
from tailrace_frontend.app import Frontend
from tailrace_frontend.http.head import has_head

pytestmark = pytest.mark.asyncio(loop_scope="module")

OWNERS = ("ada", "ben")
KINDS = (
    "read", "create", "cancel", "read+create", "read+cancel", "create+cancel", "read+create+cancel", "admin:view",
    "admin:operate", "admin:content", "admin", "admin+read", "admin:view+cancel", "admin:operate+create",
)  # fmt: skip
NO_KEYS = ("none", "unknown", "expired", "revoked", "ticket", "share")
EXPIRED = "expires=2001-01-01T00:00:00Z"
AT_ONCE = 8
MODELS = {"/v1/models", "/v1/models/{model:path}", "/v1/webhook_event_types"}
PLACEHOLDER = "x"


class Case(NamedTuple):
    """A request: the kind of key, whose it is, and the route."""

    kind: str
    owner: str
    method: str
    path: str


class Answer(NamedTuple):
    status: int
    code: str | None


def explained(method: str, path: str) -> Scopes:
    """The scopes that a route should need one of, by its method and path."""
    if path.startswith("/v1/admin"):
        return scopes_of(["admin"])
    if path in MODELS:
        return frozenset({Scope.READ, Scope.CREATE})
    if method == "GET":
        return READERS
    is_end = method == "DELETE" or path.endswith(("/cancel", "/stop"))
    return frozenset({Scope.CANCEL if is_end else Scope.CREATE})


def routes() -> dict[tuple[str, str], Scopes]:
    """The scopes of every route that needs a key."""
    api = Frontend(Settings(redis_url="redis://127.0.0.1:1/0")).api
    return {route: scopes for route, scopes in declared_scopes(api).items() if scopes is not None}


DECLARED = routes()
ROUTES = DECLARED | {
    ("HEAD", path): scopes for (method, path), scopes in DECLARED.items() if method == "GET" and has_head(path)
}  # fmt: skip
"""A HEAD is answered as a GET is."""

CASES = [
    Case(kind, owner, method, path)
    for method, path in ROUTES for kind in (*KINDS, *NO_KEYS, "blocked") for owner in OWNERS
]  # fmt: skip


def key_of(kind: str, owner: str) -> str:
    return f"key-{owner}-{kind.replace('+', '-').replace(':', '-')}"


class Installation:
    """One frontend, and an object of each kind, which are ada's."""

    def __init__(self, product: Product, url: str) -> None:
        self.product = product
        self.url = url
        self.ada = Api(product.http, url, key_of("read+create+cancel", "ada"))
        self.ops = Api(product.http, url, "key-of-operator")
        self.shown: dict[tuple[str, str], str] = {}
        self.generation_id = self.endpoint_id = ""

    async def prepare(self) -> None:
        self.generation_id = await self.product.completed("Hello", api=self.ada)
        self.endpoint_id = await self.new_endpoint()
        for owner in OWNERS:
            made_by = Api(self.product.http, self.url, key_of("read+create+cancel", owner))
            own = await self.product.completed("Hello", api=made_by)
            url = (await made_by.get(own)).value["events_url"]
            share = await made_by.request("POST", f"/v1/generations/{own}/shares")
            self.shown["ticket", owner] = f"Ticket {url.partition('=')[2]}"
            self.shown["share", owner] = f"Ticket {share.value['events_url'].partition('=')[2]}"
            listed = (await self.ops.request("GET", f"/v1/admin/keys?caller={owner}-revoked")).value["data"]
            await self.ops.request("DELETE", f"/v1/admin/keys/{listed[0]['id']}")
            await self.ops.request("PUT", f"/v1/admin/blocks/{owner}-blocked")

    async def new_endpoint(self) -> str:
        given = {"name": "n", "url": "https://example.org/", "event_types": ["response.completed"]}
        response = await self.ada.request("POST", "/v1/webhook_endpoints", json=given)
        assert response.status == 200, response
        return str(response.value["id"])

    async def path_of(self, case: Case) -> str:
        """The path, with ids of ada's objects; what she is about to delete is made for that."""
        generation_id, endpoint_id = self.generation_id, self.endpoint_id
        if case.method == "DELETE" and case.owner == "ada" and refusal_of(case) is None:
            if "webhook" in case.path:
                endpoint_id = await self.new_endpoint()
            elif "/shares" not in case.path:
                generation_id = await self.product.completed("Hello", api=self.ada)
        suffix = generation_id.removeprefix("gen_")
        ids = {
            "generation_id": generation_id, "completion_id": CHAT_COMPLETION_PREFIX + suffix,
            "response_id": RESPONSE_PREFIX + suffix, "id": endpoint_id,
        }  # fmt: skip
        if case.path.startswith("/v1/admin"):
            ids = {}  # an operator may end what is ada's
        return re.sub(r"{(\w+)(?::path)?}", lambda found: ids.get(found[1], PLACEHOLDER), case.path)

    async def ask(self, case: Case) -> Answer:
        """The status, and the code of an error. A stream is not read."""
        known = {"none": "", "unknown": "Bearer no-key-at-all"} | {
            kind: self.shown[kind, case.owner] for kind in ("ticket", "share")
        }
        shown = known.get(case.kind, f"Bearer {key_of(case.kind, case.owner)}")
        url = self.url + await self.path_of(case)
        data = None if case.method in ("GET", "HEAD") else b"{"
        headers = {"Authorization": shown} if shown else {}
        async with self.product.http.request(case.method, url, data=data, headers=headers) as response:
            if response.status < 400 or case.method == "HEAD":
                return Answer(response.status, None)
            return Answer(response.status, (await response.json())["error"]["code"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def installation(product: Product) -> AsyncIterator[Installation]:
    entries = [f"{owner}:{key_of(kind, owner)};scopes={kind}" for kind in KINDS for owner in OWNERS]
    for owner in OWNERS:
        entries += [
            f"{owner}:{key_of('expired', owner)};{EXPIRED};scopes=read+create+cancel+admin",
            f"{owner}-revoked:{key_of('revoked', owner)};scopes=read+create+cancel+admin",
            f"{owner}-blocked:{key_of('blocked', owner)};scopes=read+create+cancel+admin",
        ]
    keys = ",".join([*entries, "ops:key-of-operator;scopes=admin"])
    async with product.frontend(api_keys=keys, ticket_secret="0123456789abcdef") as frontend:
        installation = Installation(product, frontend.url)
        await installation.prepare()
        yield installation


def refusal_of(case: Case) -> Answer | None:
    """How the kind of key has to be refused; None: it may do this."""
    if case.kind == "none" and case.path.startswith("/v1/admin") and case.method not in ("GET", "HEAD"):
        return Answer(403, "origin_refused")  # it could come from a page of another site, with the session's cookie
    if case.kind in NO_KEYS:
        return Answer(401, "invalid_api_key")
    if case.kind == "blocked":
        return Answer(403, "caller_blocked")
    scopes = scopes_of(case.kind.split("+"))
    is_allowed = not ROUTES[case.method, case.path].isdisjoint(scopes)
    if case.method == "POST" and case.path.endswith("/shares"):
        is_allowed = scopes >= {Scope.READ, Scope.CREATE}  # a link reads
    return None if is_allowed else Answer(403, "insufficient_scope")


def is_right(case: Case, answer: Answer) -> bool:
    """Whether this is the answer that the kind of key has to get."""
    if refusal := refusal_of(case):
        return answer == (refusal if case.method != "HEAD" else refusal._replace(code=None))
    if answer.status in (401, 403) or answer.status >= 500:
        return False
    is_of_an_object = bool(re.search(r"{(generation_id|completion_id|response_id|id)}", case.path))
    if not is_of_an_object or case.path.startswith("/v1/admin"):
        return True
    if case.owner == "ben":
        return answer.status in (400, 404)
    return answer.status != 404 or "{share_id}" in case.path


@pytest.mark.parametrize(("method", "path"), DECLARED)
async def test_route_needs_the_scope_that_its_method_and_path_explain(method: str, path: str) -> None:
    scopes = DECLARED[method, path]
    assert scopes
    if path.startswith("/v1/admin"):
        assert scopes <= explained(method, path)
        assert scopes.isdisjoint(CALLER_SCOPES)
        assert scopes != {Scope.ADMIN_VIEW} or method == "GET" or path == "/v1/admin/session"
    else:
        assert scopes == explained(method, path)


@pytest.mark.timeout(600)
async def test_every_key_may_do_what_it_may_on_every_route(installation: Installation) -> None:
    assert len(CASES) >= 2000
    wrong: list[tuple[Case, Answer]] = []
    places = asyncio.Semaphore(AT_ONCE)

    async def check(case: Case) -> None:
        async with places:
            answer = await installation.ask(case)
        if not is_right(case, answer):
            wrong.append((case, answer))

    await asyncio.gather(*(check(case) for case in CASES))
    assert not wrong, f"{len(wrong)} of {len(CASES)}: {wrong[:10]}"
