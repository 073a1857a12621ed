"""Every router under `/v1/admin`."""

from tailrace_frontend.http.admin import me

ROUTERS = (me.router,)
