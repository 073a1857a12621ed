"""nchan, Debian's module for nginx, with its Redis store: EventSource subscribers, publishers over keep-alive HTTP.

One nginx worker, because it is compared with one frontend. A channel keeps all messages of a trial, as a log does.
Publishers and subscribers use the same nginx, so `web` contains the HTTP of both; `append` is the publishing client.
"""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bench.children import load, running
from bench.delivery import Side
from bench.harness import Served
from support.stack import Stack
from tailrace_cli.embedded import free_port

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin")
MODULE = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
CONFIGURATION = """
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log warn;
load_module {module};
events {{ worker_connections 16384; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    nchan_message_buffer_length 100000;
    nchan_message_timeout 1h;
    upstream store {{ nchan_redis_server {redis}; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location ~ ^/pub/(.+)$ {{
            nchan_publisher;
            nchan_channel_id $1;
            nchan_redis_pass store;
        }}
        location ~ ^/sub/(.+)$ {{
            nchan_subscriber eventsource;
            nchan_channel_id $1;
            nchan_redis_pass store;
        }}
    }}
}}
"""


def missing() -> str | None:
    """The reason why nchan cannot be measured here."""
    return None if NGINX and MODULE.exists() else "nchan is skipped: Debian's libnginx-mod-nchan is not installed."


@asynccontextmanager
async def nginx(stack: Stack) -> AsyncIterator[Served]:
    port, file = free_port(), stack.root / "nginx.conf"
    redis = stack.redis.url.removesuffix("/0")
    file.write_text(CONFIGURATION.format(folder=stack.root, module=MODULE, redis=redis, port=port))
    command = [NGINX or "nginx", "-p", str(stack.root), "-c", str(file)]
    async with running(command, stack.root / "nginx.out") as process:
        await process.wait_for_port(port)
        yield Served(process.pid, port)


NCHAN = Side(nginx, lambda _, web: load("bench.appending", "nchan", str(web.port)), "/sub/{}")
