"""The upstreams of an installation: what each of them serves, and in which order they are asked.

    tailrace.toml ──▶ config ──▶ Upstreams.targets(model) ──▶ [Target(upstream, model), …]
                   │    ├── profiles    how the products differ
                   │    └── prices      what an answer costs
                   └── current      read again on SIGHUP

Workers and frontends read the same file. Whether an upstream responds, and how many calls it has, is not known here
(`tailrace.queue.upstream_calls`).
"""

from tailrace.upstreams.config import DEFAULT_UPSTREAM, Target, UpstreamConfig, Upstreams
from tailrace.upstreams.current import CurrentUpstreams
from tailrace.upstreams.prices import Price
from tailrace.upstreams.profiles import PROFILES, Continuation, Profile

__all__ = [
    "DEFAULT_UPSTREAM",
    "PROFILES",
    "Continuation",
    "CurrentUpstreams",
    "Price",
    "Profile",
    "Target",
    "UpstreamConfig",
    "Upstreams",
]
