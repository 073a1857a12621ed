"""The environment of the commands that use a running server."""

from pathlib import Path

import pytest

from tailrace_cli.embedded import EmbeddedServer


@pytest.fixture
def _settings_of_the_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, valkey: EmbeddedServer) -> None:
    """The server's address and an empty data directory; none of the settings that select callers or models."""
    monkeypatch.setenv("TAILRACE_REDIS_URL", valkey.url)
    monkeypatch.setenv("TAILRACE_DATA_DIR", str(tmp_path))
    for name in ("TAILRACE_API_KEYS", "TAILRACE_MODEL", "TAILRACE_MODELS"):
        monkeypatch.delenv(name, raising=False)
