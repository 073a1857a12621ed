"""Every router under `/v1/admin`."""

from tailrace_frontend.http.admin import history, me

ROUTERS = (history.router, me.router)
