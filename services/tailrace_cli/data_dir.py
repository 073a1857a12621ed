"""Where other commands find the server of `tailrace dev`: its port is any free one, its data directory is known."""

import socket
from pathlib import Path
from urllib.parse import urlsplit

FILE = "redis-url"


def leave_address(data_dir: Path, url: str) -> None:
    (data_dir / FILE).write_text(url + "\n")


def address_in(data_dir: Path) -> str | None:
    """The address that was left there, if a server answers at it."""
    try:
        url = (data_dir / FILE).read_text().strip()
        port = urlsplit(url).port
    except (OSError, ValueError):
        return None
    return url if port and answers(port) else None


def answers(port: int) -> bool:
    """Whether a Redis does on this port of the machine."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as line:
            line.sendall(b"PING\r\n")
            return line.recv(16).startswith(b"+PONG")
    except OSError:
        return False
