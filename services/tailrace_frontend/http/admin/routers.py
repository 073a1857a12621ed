"""Every router under `/v1/admin`."""

from tailrace_frontend.http.admin import audit, blocks, callers, history, keys, me

ROUTERS = (audit.router, blocks.router, callers.router, history.router, keys.router, me.router)
