"""Files in the data directory of `tailrace dev`: the addresses of its server and frontend, the secret of its tickets.

Both may listen on any free port; the data directory is known. The URLs are therefore written there, and other commands
find them. The secret is kept, so that the addresses of streams outlive a restart.
"""

import os
import secrets
import socket
from pathlib import Path
from urllib.parse import urlsplit

FILE = "redis-url"
OF_FRONTEND = "frontend-url"
OF_TICKETS = "ticket-secret"
SECRET_BYTES = 32


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


def write_frontend_url(data_dir: Path, url: str) -> None:
    """Store the URL of the frontend that uses the directory."""
    data_dir.mkdir(parents=True, exist_ok=True)
    (data_dir / OF_FRONTEND).write_text(url + "\n")


def forget_frontend_url(data_dir: Path) -> None:
    """Delete it: the frontend has ended."""
    (data_dir / OF_FRONTEND).unlink(missing_ok=True)


def frontend_url(data_dir: Path) -> str | None:
    """The stored URL, if a program listens there; otherwise None. (One that was killed leaves its URL.)"""
    try:
        url = (data_dir / OF_FRONTEND).read_text().strip()
        parts = urlsplit(url)
        with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=1):
            return url
    except (OSError, ValueError):
        return None


def responds(port: int) -> bool:
    """Whether a Redis server on this port of the local machine responds to PING."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False


def ticket_secret(data_dir: Path) -> str:
    """The directory's secret for tickets, generated where there is none yet. Only its user can read the file.

    Raises:
        OSError: the file cannot be written or read.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    path = data_dir / OF_TICKETS
    if path.exists() and len(known := path.read_text().strip()) == 2 * SECRET_BYTES:
        return known
    written = path.with_name(f".{path.name}.{os.getpid()}")
    secret = secrets.token_hex(SECRET_BYTES)
    with os.fdopen(os.open(written, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, mode=0o600), "w") as file:
        file.write(secret + "\n")
    written.replace(path)
    return secret
