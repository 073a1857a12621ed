"""Failures on purpose: the routes through which the page of `tailrace dev` shows its processes and kills one of them.

GET  /dev                the processes, as `tailrace dev` writes them: {"worker": {"pid": 4711, "restarts": 0}, …}
POST /dev/kill/worker    SIGKILL, as in a crash: 202; `tailrace dev` starts the process again, and charges no generation
POST /dev/kill/frontend  the same for this process, after the response

The routes exist only in a frontend that `tailrace dev` has started and that listens on loopback; elsewhere they are 404
as any unknown path is. No page of another site reaches them. `Host` must be a loopback name (DNS rebinding). An
`Origin` must be this server's own, whatever `TAILRACE_CORS_ORIGINS` has. A POST needs the header `x-tailrace-dev: 1`,
which a form cannot send and a script of another origin may not. Where there are API keys, a POST needs one of them.
"""

import json
import logging
import os
import signal
from pathlib import Path

from fastapi import APIRouter, Request, Response
from starlette.background import BackgroundTask

from tailrace.errors import HostRefused, NotFound, OriginRefused, Unavailable
from tailrace.events import Json
from tailrace.process import requested_kill
from tailrace.settings import DEV_PROCESSES, Settings
from tailrace_frontend.callers import has_local_host, has_own_origin
from tailrace_frontend.http.json_response import JSONBytesResponse
from tailrace_frontend.services import Services

HEADER = "x-tailrace-dev"
KILLABLE = frozenset({"worker", "frontend"})
NO_STORE = {"Cache-Control": "no-store"}

logger = logging.getLogger(__name__)


def router(settings: Settings) -> APIRouter:
    """The routes, or none where this frontend is not one of `tailrace dev`."""
    routes = APIRouter(prefix="/dev", include_in_schema=False)
    if is_available(settings):
        _add_routes(routes, Path(os.environ[DEV_PROCESSES]))
    return routes


def is_available(settings: Settings) -> bool:
    """Whether the routes exist: `tailrace dev` has started this frontend, and it listens on loopback."""
    return bool(os.environ.get(DEV_PROCESSES)) and settings.is_loopback


def _add_routes(routes: APIRouter, path: Path) -> None:
    @routes.get("")
    async def processes(request: Request) -> Response:
        _check_page(request)
        return JSONBytesResponse(_read(path), headers=NO_STORE)

    @routes.post("/kill/{name}")
    async def kill(request: Request, name: str) -> Response:
        _check_killer(request)
        if name not in KILLABLE:
            raise NotFound
        pid = _pid_of(name, path)
        answer = JSONBytesResponse({"killed": name, "pid": pid}, 202, NO_STORE)
        if name == "frontend":
            answer.background = BackgroundTask(os.kill, pid, signal.SIGKILL)
        else:
            _kill(name, pid, path)
        return answer


def _check_page(request: Request) -> None:
    """
    Raises:
        HostRefused, OriginRefused: the request could come from a web page of another site.
    """
    if not has_local_host(request.headers):
        raise HostRefused("This route of `tailrace dev` accepts only loopback names in the Host header.")
    if not has_own_origin(request.headers):
        raise OriginRefused("This route of `tailrace dev` rejects requests from pages of other origins.")


def _check_killer(request: Request) -> None:
    """
    Raises:
        HostRefused, OriginRefused: as `_check_page`, or the header is missing.
        Unauthenticated: there are API keys, and the request has none of them.
    """
    _check_page(request)
    if request.headers.get(HEADER) != "1":
        raise OriginRefused(f"This route of `tailrace dev` needs the header `{HEADER}: 1`.")
    services: Services = request.app.state.services
    services.callers.identify(request.headers)


def _read(path: Path) -> Json:
    """
    Raises:
        Unavailable: `tailrace dev` has not written the file yet.
    """
    try:
        processes: Json = json.loads(path.read_bytes())
    except (OSError, ValueError):
        raise Unavailable("`tailrace dev` has not reported its processes yet.") from None
    return processes


def _pid_of(name: str, path: Path) -> int:
    if name == "frontend":
        return os.getpid()
    if name not in (processes := _read(path)):
        raise Unavailable(f"`tailrace dev` has not started the {name} yet.")
    return int(processes[name]["pid"])


def _kill(name: str, pid: int, path: Path) -> None:
    """
    Raises:
        Unavailable: the process is gone already, and its successor has not started.
    """
    try:
        requested_kill.note(path, pid)
    except OSError as error:
        logger.warning("the kill of the %s counts as a crash: %s", name, error)
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        raise Unavailable(f"The {name} is not running at the moment; `tailrace dev` is starting it again.") from None
