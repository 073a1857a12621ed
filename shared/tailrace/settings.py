"""Every setting with its name, default and description; `TAILRACE_<NAME>` in the environment.

The upstream's key and address are the OpenAI SDK's own variables, `OPENAI_API_KEY` and `OPENAI_BASE_URL`.
"""

import os
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from tailrace.errors import Misconfigured
from tailrace.scopes import Scope, scopes_of

DATA_DIR = Path(".tailrace")
KIB, MIB, GIB = 1024, 1024**2, 1024**3
SPARE_CONNECTIONS = 1000
PREFIX = "TAILRACE_"
DEV_PROCESSES = "TAILRACE_DEV_PROCESSES"
"""The file with the processes of `tailrace dev`, which sets this variable for its frontend."""

LISTENERS = "TAILRACE_LISTENERS"
"""The sockets that a child of `tailrace dev` inherits to listen on: their file descriptors, separated by commas."""

WORKER_NAME = "TAILRACE_WORKER_NAME"
"""The name under which a child of `tailrace dev` runs generations: another one at each start."""

INTERNAL = frozenset({DEV_PROCESSES, LISTENERS, WORKER_NAME})
"""Variables that processes set for each other. They are no settings of an operator."""

OF_EXAMPLES = frozenset({"TAILRACE_URL", "TAILRACE_KEY"})
"""Variables of the programs in `examples/`."""


ASYMMETRIC = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"})

TRACE_ID = "{trace_id}"
"""In the template of a trace's address."""


class Settings(BaseSettings):
    """The settings of all processes. Each process reads only those that it needs."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    redis_url: str = Field(
        "redis://127.0.0.1:6379/0",
        repr=False,  # the URL may contain a password
        description="Redis server of the logs: Redis >= 7 or Valkey. redis://, rediss:// or "
        "redis+sentinel://host:port,…/service/db; or a cluster, redis+cluster://host:port,… (rediss+cluster:// with "
        "TLS), with QUEUE_URL beside it.",
    )
    queue_url: str = Field(
        "", repr=False, description="Redis server of the queue, not a cluster; empty: the same server."
    )
    host: str = Field(
        "127.0.0.1", description="Address that the frontend listens on. Any address beyond loopback requires API keys."
    )
    port: int = Field(8080, ge=0, le=65535, description="Port that the frontend listens on; 0 picks a free one.")
    operations_address: str = Field(
        "",
        description="Address `host:port` of `/readyz` and `/metrics`, which then are not on the frontend's own; empty: "
        "the frontend's own.",
    )
    worker_operations_address: str = Field(
        "",
        description="Address `host:port` of a worker's `/metrics`, `/livez`, `/startupz` and `/readyz`; empty: none.",
    )
    api_keys: SecretStr = Field(
        SecretStr(""),
        description="Callers as `name:key,name:key`, or `@/path/to/file` (one per line, re-read when it "
        "changes). A caller may have several keys; `name:key;expires=2027-01-31T00:00:00Z` is refused from then on, "
        "and `name:key;scopes=read+create` may do only that (`docs/admin.md`). "
        "Empty: open mode, loopback only.",
    )
    ticket_secret: SecretStr = Field(
        SecretStr(""),
        description="Signs the tickets for `EventSource`; the same on every frontend, required with API keys. "
        "(`tailrace dev` generates one.)",
    )
    jwt_issuer: str = Field(
        "",
        description="Issuer whose tokens (JWT) identify callers beside the API keys, as `iss` has it: an https URL. "
        "Empty: none.",
    )
    jwt_audience: str = Field("", description="Audience that a token must have (`aud`); required with an issuer.")
    jwt_jwks_url: str = Field(
        "", description="URL of the issuer's keys (JWK Set); empty: as its OpenID configuration names it."
    )
    jwt_algorithms: str = Field(
        "RS256,ES256,EdDSA", description="Signature algorithms that are accepted; asymmetric ones only."
    )
    jwt_owner_claim: str = Field("sub", min_length=1, description="Claim of a token that names the caller.")
    jwt_scope_claim: str = Field(
        "scope", description="Claim with the scopes of a token, as `tailrace:read tailrace:create` or a list of them."
    )
    jwt_scopes: str = Field("read+create+cancel", description="Scopes of a token whose claim names none of Tailrace's.")
    cors_origins: str = Field(
        "", description="Origins that browsers may call from, separated by commas; `*`: any; empty: none."
    )
    lease_s: float = Field(
        5.0, ge=0.5, le=300, description="Seconds that a worker may be silent before it counts as dead."
    )
    disconnect_grace_s: float = Field(
        20.0,
        ge=6,
        le=3600,
        description="Seconds that a generation with `on_disconnect: cancel` may be without a reader; the same in every "
        "process. Time during which a process had no connection to Redis does not count.",
    )
    retention_s: int = Field(3600, ge=1, description="Seconds that a generation is stored after its end.")
    deadline_s: int = Field(
        3600,
        ge=1,
        description="Seconds that a generation may take from its creation; upper limit of a request's `deadline_s`.",
    )
    max_jobs: int = Field(
        100,
        ge=1,
        description="Generations that a worker runs at once. Each costs memory: its output and about 250 "
        "bytes per row (at most one row per token).",
    )
    max_readers: int = Field(
        10_000, ge=1, description="Event streams that a frontend serves at once; a request with `?wait=` counts as one."
    )
    max_connections: int = Field(
        0,
        ge=0,
        description="Connections that a frontend serves at once, streams included. One more closes one that has "
        "its answer, or the one that has been idle for longest, or is closed itself. 0: `TAILRACE_MAX_READERS` plus "
        "1,000.",
    )
    max_queued: int = Field(10_000, ge=1, description="Generations that may wait in the queue.")
    max_unfinished_per_caller: int = Field(
        2500, ge=1, description="Generations of one caller that may be queued or running at once."
    )
    max_running_per_caller: int = Field(
        0, ge=0, description="Generations of one caller that run at once, on all workers; more wait. 0: any number."
    )
    weights: str = Field(
        "",
        description="Callers' shares of the workers while generations of several wait, as `caller=3,caller=0.5`; all "
        "others have 1.",
    )
    max_readers_per_caller: int = Field(
        2500, ge=1, description="Event streams that a frontend serves to one caller at once."
    )
    max_requests_per_minute_per_caller: int = Field(
        6000,
        ge=1,
        description="Requests that one caller may send in a minute: to each frontend, and creations to all of them "
        "together. A request counts once, and once more for each 4 KiB of its body. Not in open mode.",
    )
    max_tokens_per_minute_per_caller: int = Field(
        0,
        ge=0,
        description="Tokens of inputs and outputs that one caller may use in a minute. A request reserves what it may "
        "use, and is charged what it has used. 0: no limit.",
    )
    budget_day_tokens_per_caller: int = Field(
        0, ge=0, description="Tokens that one caller may use in a day (UTC); 0: no limit."
    )
    budget_day_usd_per_caller: float = Field(
        0.0,
        ge=0,
        le=1e6,
        description="US dollars that one caller may use in a day (UTC), by the prices of `tailrace.toml`; 0: no limit.",
    )
    budget_month_tokens_per_caller: int = Field(
        0, ge=0, description="Tokens that one caller may use in a month (UTC); 0: no limit."
    )
    budget_month_usd_per_caller: float = Field(
        0.0,
        ge=0,
        le=1e6,
        description="US dollars that one caller may use in a month (UTC), by the prices of `tailrace.toml`; 0: no "
        "limit.",
    )
    max_stored_bytes_per_caller: int = Field(
        GIB,
        ge=MIB,
        description="Bytes of requests and outputs that are stored for one caller, with 6,500 for each generation.",
    )
    models: str = Field(
        "", description="Models that callers may name, separated by commas; `name*`: all that begin so; empty: any."
    )
    model: str = Field(
        "",
        description="Default model, the first of `GET /v1/models`: of the page, of `POST /api/chat` where the body "
        "names none, and of `tailrace ask`; empty: the first that the upstream lists.",
    )
    models_per_caller: str = Field(
        "",
        description="Callers that may name fewer models, as `caller=model model,caller=model`; a model must be "
        "in `TAILRACE_MODELS` as well.",
    )
    reasoning_view: Literal["text", "summary"] = Field(
        "text",
        description="How the Responses API shows reasoning where the request asks for no summary: `text` or `summary`, "
        "which some SDKs show alone.",
    )
    max_memory_percent: int = Field(
        85,
        ge=1,
        le=100,
        description="Use of Redis' `maxmemory` above which new generations are refused; running ones finish.",
    )
    max_log_bytes: int = Field(
        8 * MIB,
        ge=64 * KIB,
        description="Maximum bytes of one generation's output: its texts, and what the upstream sends with them. Its "
        "log takes about twice that, and more after restarts.",
    )
    max_body_bytes: int = Field(8 * MIB, ge=KIB, description="Maximum bytes of a request body.")
    max_inflight_bytes: int = Field(
        24 * MIB,
        ge=MIB,
        description="Bytes of large requests and responses that a frontend holds at once. Beyond it the oldest one is "
        "cut, if it has had 10 s; otherwise the new one gets 503.",
    )
    max_attempts: int = Field(
        5,
        ge=1,
        description="Failed attempts before a generation ends as failed. An attempt lost with a worker that ran others "
        "beside it is not counted, at most three times; 1: a generation runs once.",
    )
    client_write_timeout_s: float = Field(
        30.0, gt=0, description="Seconds that a client's socket may stay full before the connection is aborted."
    )
    keepalive_s: float = Field(
        15.0,
        gt=0,
        description="Seconds between keep-alive comments on a quiet stream; also how long OpenAI's routes wait for "
        "output before they send a status.",
    )
    config: str = Field(
        "",
        description="File with the upstreams, `tailrace.toml`; the same for workers and frontends, read again on "
        "SIGHUP. Empty: the one upstream of `OPENAI_BASE_URL` and `OPENAI_API_KEY`.",
    )
    upstream_dialect: Literal["chat", "responses"] = Field(
        "chat", description="API of the upstream of `OPENAI_BASE_URL`: `chat` (Chat Completions) or `responses`."
    )
    upstream_background: bool = Field(
        False,
        description="Whether an upstream with `/responses` runs and keeps answers by itself (`background`, `store`): a "
        "lost connection to it is then taken up. Not for requests with `store: false`.",
    )
    upstream_profile: str = Field(
        "generic", description="Product behind `OPENAI_BASE_URL`, as `profile` in `tailrace.toml` names it."
    )
    circuit_failures: int = Field(
        5,
        ge=0,
        description="Generations whose calls of an upstream of `tailrace.toml` have failed, over all workers, within "
        "`TAILRACE_CIRCUIT_WINDOW_S`, at which its circuit opens: it is not called but for probes. 0: never.",
    )
    circuit_window_s: float = Field(30.0, gt=0, le=3600, description="Seconds in which those generations are counted.")
    circuit_probe_s: float = Field(
        10.0,
        gt=0,
        le=3600,
        description="Seconds between two calls that try an upstream whose circuit is open, one at a time.",
    )
    upstream_wait_s: float = Field(
        30.0,
        ge=0,
        description="Seconds that a generation waits while every upstream that serves its model has "
        "`max_concurrency` calls or an open circuit; then it fails.",
    )
    upstream_connect_timeout_s: float = Field(10.0, gt=0, description="Seconds to connect to the upstream.")
    upstream_first_token_timeout_s: float = Field(
        120.0, gt=0, description="Seconds until the upstream's first content."
    )
    upstream_idle_timeout_s: float = Field(
        60.0, gt=0, description="Seconds between two pieces of content from the upstream; comments do not count."
    )
    upstream_retries: int = Field(
        4,
        ge=0,
        description="Retries of a request that failed before the first content, as `docs/upstreams.md` has it.",
    )
    webhook_allow_private: bool = Field(
        False, description="Whether webhooks may be sent to addresses that are not public, and over http."
    )
    drain_s: float = Field(
        10.0, ge=0, description="Seconds that a stopping process gives its streams and generations to finish."
    )
    drain_accept_s: float = Field(
        5.0,
        ge=0,
        description="Seconds for which a stopping frontend accepts connections, so that balancers notice first that it "
        "stops; at most `TAILRACE_DRAIN_S`.",
    )
    trace_first_attempt: Literal["link", "child"] = Field(
        "link",
        description="How the span of a generation's first attempt belongs to its creation, where `OTEL_…` asks for "
        "traces: `link`, in a trace of its own, or `child`. Later attempts are linked.",
    )
    trace_upstreams: bool = Field(
        False, description="Whether requests to upstreams carry a `traceparent`, where `OTEL_…` asks for traces."
    )
    trace_url: str = Field(
        "",
        description="Address of a trace in your tracing tool, with `{trace_id}`, as "
        "`https://jaeger.example.org/trace/{trace_id}`: the dashboard links to it.",
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="How processes log: `text`, or `json`, an object a line."
    )
    data_dir: Path = Field(
        DATA_DIR,
        description="Directory where `tailrace dev` keeps its server's data, so that answers outlive it, and "
        "its address, so that other commands without a REDIS_URL find it.",
    )
    url: str = Field(
        "",
        description="Address of a frontend, for the commands that ask one; empty: that of a running `tailrace dev`, "
        "else the host and port above.",
    )
    api_key: SecretStr = Field(
        SecretStr(""), description="API key of the commands that ask a frontend; a token of the issuer as well."
    )

    @cached_property
    def queue_server(self) -> str:
        """The URL of the queue's server."""
        return self.queue_url or self.redis_url

    @cached_property
    def connections(self) -> int:
        """`max_connections`, or what follows from `max_readers`."""
        return self.max_connections or self.max_readers + SPARE_CONNECTIONS

    @cached_property
    def lease_ms(self) -> int:
        """The lease in milliseconds."""
        return int(self.lease_s * 1000)

    @cached_property
    def disconnect_grace_ms(self) -> int:
        """The grace of `on_disconnect: cancel` in milliseconds."""
        return int(self.disconnect_grace_s * 1000)

    @cached_property
    def longest_life_s(self) -> int:
        """Seconds after which no generation is kept any more."""
        return self.deadline_s + self.retention_s + round(self.lease_s) + 1

    @cached_property
    def has_callers(self) -> bool:
        """Whether callers are identified by API keys or tokens; otherwise the frontend runs in open mode."""
        return bool(self.api_keys.get_secret_value().strip() or self.jwt_issuer)

    @cached_property
    def jwt_algorithm_names(self) -> frozenset[str]:
        """`jwt_algorithms` as a set."""
        return frozenset(name.strip() for name in self.jwt_algorithms.split(",") if name.strip())

    @cached_property
    def origins(self) -> list[str]:
        """`cors_origins` as a list."""
        return [origin.strip().rstrip("/") for origin in self.cors_origins.split(",") if origin.strip()]

    @property
    def restart_grace_s(self) -> float:
        """Seconds that a restart or failover of Redis may take. Until then, missing data is not reported as lost."""
        return self.lease_s + 1

    @property
    def is_loopback(self) -> bool:
        """Whether `host` is reachable from this machine only."""
        return is_loopback_name(self.host)

    @property
    def operations_host_and_port(self) -> tuple[str, int]:
        """`operations_address` in its two parts.

        Raises:
            Misconfigured: it is not `host:port`.
        """
        return _host_and_port("operations_address", self.operations_address)

    @property
    def worker_operations_host_and_port(self) -> tuple[str, int]:
        """`worker_operations_address` in its two parts.

        Raises:
            Misconfigured: it is not `host:port`.
        """
        return _host_and_port("worker_operations_address", self.worker_operations_address)

    def check_frontend(self) -> None:
        """Check that the frontend is not open to the network and that its tickets cannot be forged.

        Raises:
            Misconfigured: with the variable, the risk and the remedy.
        """
        if self.operations_address:
            _ = self.operations_host_and_port
        if self.jwt_issuer:
            _check_tokens(self)
        if self.trace_url and not (self.trace_url.startswith(("https://", "http://")) and TRACE_ID in self.trace_url):
            raise Misconfigured(f"TAILRACE_TRACE_URL is no http URL with {TRACE_ID}")
        if not self.has_callers and not self.is_loopback:
            raise Misconfigured(
                f"TAILRACE_HOST is {self.host}, beyond loopback, and TAILRACE_API_KEYS is empty: "
                "any client that reaches this port could use your model. Set keys, or listen on 127.0.0.1."
            )
        if not self.has_callers and "*" in self.origins:
            raise Misconfigured(
                "TAILRACE_CORS_ORIGINS is * and TAILRACE_API_KEYS is empty: "
                "any web page could use your model through its visitor's browser. Set keys, or list the origins."
            )
        if self.has_callers and len(self.ticket_secret.get_secret_value()) < 16:
            raise Misconfigured(
                f"{'TAILRACE_API_KEYS' if self.api_keys.get_secret_value().strip() else 'TAILRACE_JWT_ISSUER'} needs "
                "TAILRACE_TICKET_SECRET (at least 16 characters, the same on every frontend): "
                "it signs the tickets that browsers use. Generate one with: openssl rand -hex 32"
            )


def _host_and_port(setting: str, address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not (port.isascii() and port.isdecimal() and int(port) < 65536):
        raise Misconfigured(f"{PREFIX}{setting.upper()} is not `host:port`")
    return host.strip("[]"), int(port)


def _check_tokens(settings: Settings) -> None:
    """
    Raises:
        Misconfigured: tokens could be forged, or be meant for others.
    """
    if not settings.jwt_audience:
        raise Misconfigured("TAILRACE_JWT_ISSUER needs TAILRACE_JWT_AUDIENCE: tokens for others would be accepted")
    for name, url in (("TAILRACE_JWT_ISSUER", settings.jwt_issuer), ("TAILRACE_JWT_JWKS_URL", settings.jwt_jwks_url)):
        if url and not is_safe_url(url):
            raise Misconfigured(f"{name} is no https URL")
    if not settings.jwt_algorithm_names or settings.jwt_algorithm_names - ASYMMETRIC:
        raise Misconfigured(f"TAILRACE_JWT_ALGORITHMS: these exist: {', '.join(sorted(ASYMMETRIC))}")
    try:
        scopes_of(settings.jwt_scopes.split("+"))
    except ValueError:
        raise Misconfigured(f"TAILRACE_JWT_SCOPES: these exist: {', '.join(Scope)}") from None


def is_safe_url(url: str) -> bool:
    """Whether no one on the way can change what is read there: https, or http on loopback."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback_name(host)))


def is_loopback_name(host: str) -> bool:
    """Whether a host is reachable from this machine only."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def load(**overrides: object) -> Settings:
    """Load the settings from the environment; `overrides` take precedence.

    Raises:
        Misconfigured: with each variable and its problem, but not its value, which may be a secret.
    """
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        problems = (f"TAILRACE_{str(each['loc'][0]).upper()}: {each['msg']}" for each in error.errors())
        raise Misconfigured("; ".join(problems)) from None


def unknown_variables(environment: Mapping[str, str] = os.environ) -> list[tuple[str, str]]:
    """Each variable `TAILRACE_…` that is no setting, with the setting whose name is most like it, or ""."""
    known = [PREFIX + name.upper() for name in Settings.model_fields]
    others = {*known, *INTERNAL, *OF_EXAMPLES}
    unknown = sorted(name for name in environment if name.upper().startswith(PREFIX) and name.upper() not in others)
    return [(name, next(iter(get_close_matches(name.upper(), known, n=1, cutoff=0.75)), "")) for name in unknown]
