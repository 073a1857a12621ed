"""Every router under `/v1/admin`."""

from tailrace_frontend.http.admin import (
    audit,
    blocks,
    callers,
    generation,
    generations,
    history,
    keys,
    me,
    overview,
    session,
    workers,
)

ROUTERS = (
    audit.router,
    blocks.router,
    callers.router,
    generations.router,
    generation.router,
    history.router,
    keys.router,
    me.router,
    overview.router,
    session.router,
    workers.router,
)
