"""Every setting, once: name, default, help. `TAILRACE_<NAME>` in the environment.

The upstream's key and address are not here: they are the OpenAI SDK's own `OPENAI_API_KEY` and `OPENAI_BASE_URL`.
"""

from functools import cached_property
from ipaddress import ip_address
from pathlib import Path

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from tailrace.errors import Misconfigured

KIB, MIB = 1024, 1024 * 1024


class Settings(BaseSettings):
    """The settings of every process; each reads the ones that concern it."""

    model_config = SettingsConfigDict(env_prefix="TAILRACE_", extra="ignore", frozen=True)

    redis_url: str = Field(
        "redis://127.0.0.1:6379/0",
        repr=False,  # it may hold a password
        description="Where the log lives: Redis >= 7 or Valkey. redis://, rediss:// or redis+sentinel://host:port,…/service/db.",
    )
    queue_url: str = Field("", repr=False, description="Where arq's queue lives; empty: the same server.")
    host: str = Field("127.0.0.1", description="Address the frontend listens on. Beyond loopback needs API keys.")
    port: int = Field(8080, ge=0, le=65535, description="Port the frontend listens on; 0 picks a free one.")
    api_keys: SecretStr = Field(
        SecretStr(""),
        description="Callers as `name:key,name:key`, or `@/path/to/file` (one a line, re-read when it changes). "
        "Empty: open mode, loopback only.",
    )
    ticket_secret: SecretStr = Field(
        SecretStr(""),
        description="Signs tickets for `EventSource`; the same on every node, required with keys.",
    )
    cors_origins: str = Field("", description="Origins that browsers may call from, by comma; `*`: any; empty: none.")
    lease_s: float = Field(5.0, ge=0.5, le=300, description="Seconds a worker may be silent before it counts as dead.")
    retention_s: int = Field(3600, ge=1, description="Seconds a generation is kept after its end.")
    deadline_s: int = Field(3600, ge=1, description="Seconds a generation may take from create; caps `deadline_s`.")
    max_jobs: int = Field(
        100,
        ge=1,
        description="Generations a worker runs at once. "
        "Each costs memory: its output, and about 250 bytes a row beside it (at most a row a token).",
    )
    max_readers: int = Field(
        10_000, ge=1, description="Event streams a frontend serves at once; who waits with `?wait=` is one."
    )
    max_queued: int = Field(10_000, ge=1, description="Generations that may wait in the queue.")
    max_unfinished_per_caller: int = Field(
        10_000, ge=1, description="Generations of one caller that may wait or run at once."
    )
    max_readers_per_caller: int = Field(10_000, ge=1, description="Event streams a frontend serves one caller at once.")
    max_memory_percent: int = Field(
        85,
        ge=1,
        le=100,
        description="Use of Redis' `maxmemory` above which new work is refused; running work finishes.",
    )
    max_log_bytes: int = Field(16 * MIB, ge=64 * KIB, description="Bytes one generation's output may take.")
    max_body_bytes: int = Field(8 * MIB, ge=KIB, description="Bytes of a request's body.")
    max_attempts: int = Field(5, ge=1, description="Runs of one generation before it ends as failed.")
    client_write_timeout_s: float = Field(
        30.0, gt=0, description="Seconds a client's socket may stay full before it is cut."
    )
    keepalive_s: float = Field(15.0, gt=0, description="Seconds between keep-alive comments on a silent stream.")
    upstream_connect_timeout_s: float = Field(10.0, gt=0, description="Seconds to connect to the upstream.")
    upstream_first_token_timeout_s: float = Field(
        120.0, gt=0, description="Seconds until the upstream's first content."
    )
    upstream_idle_timeout_s: float = Field(
        60.0, gt=0, description="Seconds between two pieces of content (comments: none)."
    )
    upstream_retries: int = Field(4, ge=0, description="Retries of a 429, a 5xx or a lost connection before any text.")
    drain_s: float = Field(10.0, ge=0, description="Seconds a stopping process gives its streams and generations.")
    data_dir: Path = Field(
        Path(".tailrace"),
        description="Where `tailrace dev` keeps its embedded server's data, so answers outlive it, and its address, "
        "so that other commands without a REDIS_URL find it.",
    )

    @cached_property
    def queue_server(self) -> str:
        return self.queue_url or self.redis_url

    @cached_property
    def lease_ms(self) -> int:
        return int(self.lease_s * 1000)

    @cached_property
    def restart_grace_s(self) -> float:
        """Seconds within which a restarted server has its logs back: a lease, and one for the workers to reconnect."""
        return self.lease_s + 1

    @cached_property
    def longest_life_s(self) -> int:
        """Seconds after which no generation is kept any more."""
        return self.deadline_s + self.retention_s + round(self.lease_s) + 1

    @cached_property
    def has_callers(self) -> bool:
        return bool(self.api_keys.get_secret_value().strip())

    @cached_property
    def origins(self) -> list[str]:
        return [origin.strip().rstrip("/") for origin in self.cors_origins.split(",") if origin.strip()]

    @property
    def is_loopback(self) -> bool:
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def check_frontend(self) -> None:
        """Raises Misconfigured where a frontend would be open to strangers, or its tickets forgeable."""
        if not self.has_callers and not self.is_loopback:
            raise Misconfigured(
                f"TAILRACE_HOST is {self.host}, beyond loopback, and TAILRACE_API_KEYS is empty: "
                "anybody who reaches this port could use your model. Set keys, or listen on 127.0.0.1."
            )
        if not self.has_callers and "*" in self.origins:
            raise Misconfigured(
                "TAILRACE_CORS_ORIGINS is * and TAILRACE_API_KEYS is empty: "
                "any web page could use your model through its visitor's browser. Set keys, or name the origins."
            )
        if self.has_callers and len(self.ticket_secret.get_secret_value()) < 16:
            raise Misconfigured(
                "TAILRACE_API_KEYS needs TAILRACE_TICKET_SECRET (at least 16 characters, the same on every node): "
                "it signs the tickets that browsers use. Make one with: openssl rand -hex 32"
            )


def load(**overrides: object) -> Settings:
    """Settings from the environment, overridden by name.

    Raises:
        Misconfigured: naming the variable and what is wrong with it (never its value: it may be a secret).
    """
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        problems = (f"TAILRACE_{str(each['loc'][0]).upper()}: {each['msg']}" for each in error.errors())
        raise Misconfigured("; ".join(problems)) from None
