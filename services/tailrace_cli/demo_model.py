"""`tailrace demo-model`: a scripted, OpenAI-compatible server that needs no model."""

import asyncio
import logging

from tailrace.settings import Settings
from tailrace_demo import serve

DEFAULT_PORT = 8089

logger = logging.getLogger(__name__)


def main(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM."""
    port = settings.port if "port" in settings.model_fields_set else DEFAULT_PORT
    asyncio.run(serve(settings.host, port, on_listening=lambda url: logger.info("listening on %s", url)))
