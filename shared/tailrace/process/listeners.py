"""Sockets that a process inherits to listen on, instead of binding its own.

`tailrace dev` binds the ports of its children before it starts them. So a port that is taken is reported first, and a
child that is killed and restarted keeps its port: clients that connect meanwhile wait for it and are not refused.
"""

import os
import socket
from collections.abc import Sequence

from tailrace.settings import LISTENERS


def inherited_listeners() -> list[socket.socket] | None:
    """The sockets that the parent process has passed on; None if this process binds its own."""
    descriptors = os.environ.get(LISTENERS)
    return [socket.socket(fileno=int(each)) for each in descriptors.split(",")] if descriptors else None


def environment_for(sockets: Sequence[socket.socket]) -> dict[str, str]:
    """The variables by which a child finds the sockets; their descriptors are passed beside them."""
    return {LISTENERS: ",".join(str(each.fileno()) for each in sockets)}
