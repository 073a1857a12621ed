"""What a worker does not import, each in a process of its own."""

import subprocess
import sys

import pytest

UNUSED = ("jwt", "cryptography.hazmat.primitives", "prometheus_client", "fastapi", "opentelemetry")


def printed(program: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.split()


@pytest.mark.parametrize("module", ["tailrace_worker.worker", "tailrace.redis.server"])
def test_worker_does_not_import_what_it_does_not_use(module: str) -> None:
    assert printed(f"import sys, {module}\nprint(*(each for each in {UNUSED!r} if each in sys.modules))") == []


def test_pyjwt_is_imported_where_redis_py_uses_it() -> None:
    program = """
import sys, tailrace.redis
from redis.auth import token
print("jwt" in sys.modules)
try:
    token.JWToken("no token")
except Exception as error:
    print(type(error).__module__)
import jwt
print(jwt.algorithms.has_crypto)
"""
    assert printed(program) == ["False", "jwt.exceptions", "True"]


def test_pyjwt_that_was_imported_before_is_left_alone() -> None:
    program = """
import jwt, tailrace.redis
from redis.auth import token
print(token.jwt is jwt)
"""
    assert printed(program) == ["True"]
