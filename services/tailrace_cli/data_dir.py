"""The file through which other commands find the server of `tailrace dev`.

The server listens on a free port, which changes; its data directory is known. The URL is therefore written there.
"""

import socket
from pathlib import Path
from urllib.parse import urlsplit

FILE = "redis-url"


def write_server_url(data_dir: Path, url: str) -> None:
    """Store the URL of the directory's server."""
    (data_dir / FILE).write_text(url + "\n")


def running_server_url(data_dir: Path) -> str | None:
    """The stored URL, if a server responds there; otherwise None."""
    try:
        url = (data_dir / FILE).read_text().strip()
        port = urlsplit(url).port
    except (OSError, ValueError):
        return None
    return url if port and responds(port) else None


def responds(port: int) -> bool:
    """Whether a Redis server on this port of the local machine responds to PING."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False
