"""Which upstream `tailrace dev` uses: those of `TAILRACE_CONFIG`, the one of `OPENAI_BASE_URL`, Ollama where it runs,
or the built-in demo model.
"""

import os
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from tailrace.errors import Misconfigured
from tailrace.model_names import can_chat, names_in
from tailrace.settings import Settings
from tailrace.upstreams import DEFAULT_UPSTREAM, Upstreams
from tailrace.upstreams.addresses import FORM, is_address
from tailrace_cli import local_http

OLLAMA_PORT = 11434
OLLAMA_S = 2.0
OPENAI = "https://api.openai.com/v1"
ANY_ADDRESS = {"", "0.0.0.0", "::"}


class Upstream(NamedTuple):
    """`description` is for people. `environment` is what the worker reads; None for the demo model, whose address is
    known once it is bound."""

    description: str
    environment: Mapping[str, str] | None


def choose(
    environment: Mapping[str, str] = os.environ, *, wants_demo: bool = False, settings: Settings | None = None
) -> Upstream:
    """The upstream. Blocks while Ollama is asked for its models, for up to OLLAMA_S.

    Raises:
        Misconfigured: OPENAI_BASE_URL is no address, OPENAI_API_KEY no key, or `tailrace.toml` is wrong.
    """
    if wants_demo:
        return Upstream("the built-in demo model", None)
    if settings and settings.config:
        loaded = Upstreams.load(settings)
        loaded.check_keys(environment)
        return Upstream(", ".join(f"{each.name} ({each.base_url})" for each in loaded.all), {})
    address = environment.get("OPENAI_BASE_URL")
    if address and not is_address(address):  # it may have a password, so it is not repeated
        raise Misconfigured(f"OPENAI_BASE_URL is not the address of an upstream: {FORM}")
    if address or environment.get("OPENAI_API_KEY"):
        Upstreams([DEFAULT_UPSTREAM], is_default=True).check_keys(environment)
        return Upstream(without_secrets(address or OPENAI), {})
    ollama = ollama_address(environment.get("OLLAMA_HOST", ""))
    listed = local_http.get_json(f"{ollama}/v1/models", timeout_s=OLLAMA_S)
    if any(map(can_chat, names_in(listed))):
        found = {"OPENAI_BASE_URL": f"{ollama}/v1", "OPENAI_API_KEY": "ollama"}
        return Upstream(f"Ollama at {ollama} (the demo model instead: --demo)", found)
    if isinstance(listed, dict) and "data" in listed:
        missing = "no model that can chat" if names_in(listed) else "no model"
        return Upstream(f"the built-in demo model (Ollama at {ollama} has {missing}: `ollama pull` one)", None)
    return Upstream("the built-in demo model (another one: OPENAI_BASE_URL, OPENAI_API_KEY, or start Ollama)", None)


def ollama_address(host: str) -> str:
    """The address of Ollama. `host`: its own variable `OLLAMA_HOST`, for a place other than the usual one."""
    scheme, separator, rest = host.strip().rpartition("://")
    try:
        parts = urlsplit(f"//{rest}")
        name, port = parts.hostname or "", parts.port
    except ValueError:
        return f"http://127.0.0.1:{OLLAMA_PORT}"
    usual = {"http": 80, "https": 443}.get(scheme, OLLAMA_PORT) if separator else OLLAMA_PORT
    name = "127.0.0.1" if name in ANY_ADDRESS else f"[{name}]" if ":" in name else name
    return f"{scheme or 'http'}://{name}:{port or usual}"


def without_secrets(address: str) -> str:
    """An address without the name, the password and the query that it may contain."""
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
