"""The workers, and two commands for each.

GET  /v1/admin/workers
POST /v1/admin/workers/{worker}/drain  it takes no further generation
POST /v1/admin/workers/{worker}/stop   it drains, hands over what still runs, and ends
"""

from fastapi import Request, Response

from tailrace.errors import NotFound, Unavailable
from tailrace.lifecycle.worker_control import WorkerCommand, send_command
from tailrace.scopes import Scope
from tailrace_frontend.dashboard.snapshot import worker_json
from tailrace_frontend.http.admin.audited_route import admin_router
from tailrace_frontend.http.json_response import JSONBytesResponse
from tailrace_frontend.http.require import require
from tailrace_frontend.services import Services

router = admin_router("/workers")


@router.get("", dependencies=[require(Scope.ADMIN_VIEW)])
async def list_workers(request: Request) -> Response:
    """The workers that are alive, with what their last heartbeats carried."""
    services: Services = request.app.state.services
    data = [worker_json(worker) for worker in await services.queue.presence.workers()]
    return JSONBytesResponse({"object": "list", "data": data}, headers={"cache-control": "no-store"})


@router.post("/{worker}/drain", dependencies=[require(Scope.ADMIN_OPERATE)])
async def drain_worker(request: Request, worker: str) -> Response:
    """Have the worker take no further generation. What it runs ends where it is."""
    return await _command(request, worker, "drain")


@router.post("/{worker}/stop", dependencies=[require(Scope.ADMIN_OPERATE)])
async def stop_worker(request: Request, worker: str) -> Response:
    """Have the worker end as SIGTERM does. Its supervisor may start another one."""
    return await _command(request, worker, "stop")


async def _command(request: Request, worker: str, command: WorkerCommand) -> Response:
    """
    Raises:
        NotFound: no worker of that name is alive.
        Unavailable: it does not listen now.
    """
    services: Services = request.app.state.services
    if worker not in {each.name for each in await services.queue.presence.workers()}:
        raise NotFound("No worker of that name is alive.")
    if not await send_command(services.log.server, worker, command):
        raise Unavailable("The worker does not listen at the moment. Try again.")
    return JSONBytesResponse({"id": worker, "command": command}, 202)
