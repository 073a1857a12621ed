"""redis-py without the import of PyJWT, which it uses for the tokens of one vendor's servers alone.

PyJWT imports cryptography where that is installed, and it is for the frontends (`tokens`). Without this, each process
that uses Redis imports both: a worker for nothing, and each command of the CLI.
"""

import importlib
import sys
from types import ModuleType
from typing import Any


class DeferredModule(ModuleType):
    """Stands for a module that is imported when something of it is used."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self.__name__), name)


def import_redis() -> None:
    """Import redis-py's part that imports PyJWT, which is deferred for that part alone."""
    if "jwt" in sys.modules:
        return
    sys.modules["jwt"] = DeferredModule("jwt")
    try:
        importlib.import_module("redis.auth.token")
    finally:
        del sys.modules["jwt"]
