"""Every router under `/v1/admin`."""

from tailrace_frontend.http.admin import blocks, history, keys, me

ROUTERS = (blocks.router, history.router, keys.router, me.router)
