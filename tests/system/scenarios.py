"""The scenarios of `scripts/chaos`, each with its sizes."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Literal, NamedTuple

from system import (
    caller_faults,
    charge_faults,
    client_faults,
    cluster_faults,
    frontend_faults,
    leaving_faults,
    limit_faults,
    network_faults,
    openai_faults,
    redis_faults,
    rollback_faults,
    rollout_faults,
    two_server_faults,
    worker_faults,
)
from system.chaos_stack import LEASE_S, Topology
from system.load import Run

Size = Literal["short", "full"]


class Scenario(NamedTuple):
    """A scenario. `unit`: what its count counts; `measures`: what its seconds measure; `bound_s`: of their p99.

    In a short run, which shares its machine with other tests, the bound is twice as wide. `topologies`: of the log's
    servers, on which it can be played.
    """

    play: Callable[[Run], Awaitable[None]]
    unit: str
    measures: str
    bound_s: float | None
    short: Mapping[str, int]
    full: Mapping[str, int]
    topologies: tuple[Topology, ...] = ("server", "cluster")

    def topology(self, preferred: Topology) -> Topology | None:
        """The topology on which it is played: a cluster where it needs one; None where it cannot be on one."""
        return preferred if preferred in self.topologies else "cluster" if self.topologies == ("cluster",) else None


ON_A_SERVER: tuple[Topology, ...] = ("server",)
ON_A_CLUSTER: tuple[Topology, ...] = ("cluster",)

SCENARIOS: dict[str, Scenario] = {
    "worker-kills": Scenario(
        worker_faults.worker_kills, "SIGKILLs", "kill to next event", LEASE_S + 1,
        {"workers": 2, "kills": 2, "generations": 16, "at once": 12},
        {"workers": 4, "kills": 100, "generations": 1000, "at once": 30},
    ),
    "kill-storm": Scenario(
        worker_faults.kill_storm, "generations", "kill to next event", None,
        {"rounds": 1, "kills": 4, "generations": 4}, {"rounds": 5, "kills": 4, "generations": 12},
    ),
    "zombies": Scenario(
        worker_faults.zombies, "zombies", "SIGSTOP to next event", LEASE_S + 1,
        {"rounds": 1, "zombies": 10}, {"rounds": 4, "zombies": 50},
    ),
    "poison": Scenario(
        worker_faults.poison, "poisonous prompts", "kill to next event", None,
        {"poisons": 1, "neighbours": 2}, {"poisons": 10, "neighbours": 5},
    ),
    "quarantine": Scenario(
        worker_faults.quarantine, "new generations", "POST to first text", 1.0,
        {"generations": 5, "new": 5}, {"generations": 50, "new": 100},
    ),
    "same-job": Scenario(
        worker_faults.same_job, "jobs", "", None,
        {"generations": 2, "deliveries": 20}, {"generations": 20, "deliveries": 20},
    ),
    "rolling": Scenario(
        worker_faults.rolling, "SIGTERMs", "SIGTERM to exit", None,
        {"workers": 2, "frontends": 2, "rounds": 1, "generations": 16, "at once": 8},
        {"workers": 4, "frontends": 3, "rounds": 5, "generations": 300, "at once": 30},
    ),
    "rollouts": Scenario(
        rollout_faults.rollouts, "processes replaced", "SIGTERM to a frontend's exit", None,
        {"rollouts": 1, "pods": 2, "generations": 10, "readers": 40, "drain_s": 4, "lag_ms": 1500, "min_ready_s": 4},
        {"rollouts": 3, "pods": 2, "generations": 125, "readers": 500, "drain_s": 10, "lag_ms": 3000,
         "min_ready_s": 10},
    ),
    "charges": Scenario(
        charge_faults.charges, "ends", "", None,
        {"workers": 2, "kills": 4, "generations": 24, "at once": 10},
        {"workers": 4, "kills": 60, "generations": 1000, "at once": 30},
    ),
    "frontend-kills": Scenario(
        frontend_faults.frontend_kills, "SIGKILLs", "cut to next event elsewhere", None,
        {"kills": 3, "readers": 24, "generations": 8}, {"kills": 50, "readers": 200, "generations": 40},
    ),
    "slow-readers": Scenario(
        frontend_faults.slow_readers, "slow readers", "", None,
        {"generations": 1, "tokens": 1500}, {"generations": 5, "tokens": 2000},
    ),
    "redis-kills": Scenario(
        redis_faults.redis_kills, "SIGKILLs", "kill to next event", None,
        {"kills": 3, "rollbacks": 2, "generations": 16, "at once": 12},
        {"kills": 50, "rollbacks": 20, "generations": 300, "at once": 40},
    ),
    "rolled-back-end": Scenario(
        redis_faults.rolled_back_end, "rolled back ends", "", None,
        {"rounds": 1, "generations": 20}, {"rounds": 10, "generations": 40},
    ),
    "rolled-back-cancel": Scenario(
        rollback_faults.rolled_back_cancel, "rolled back cancels", "", None,
        {"rounds": 1, "generations": 20}, {"rounds": 10, "generations": 40},
    ),
    "rolled-back-delete": Scenario(
        rollback_faults.rolled_back_delete, "rolled back deletions", "", None,
        {"rounds": 1, "generations": 20}, {"rounds": 10, "generations": 40},
    ),
    "rolled-back-orphans": Scenario(
        redis_faults.rolled_back_orphans, "orphans", "kill to next event", None,
        {"rounds": 1, "generations": 8}, {"rounds": 10, "generations": 20},
    ),
    "redis-empty": Scenario(
        redis_faults.redis_empty, "empty servers", "restart to gone", LEASE_S + 2,
        {"rounds": 2, "generations": 8}, {"rounds": 10, "generations": 20},
    ),
    "redis-away": Scenario(
        redis_faults.redis_away, "readers", "kill to retry", LEASE_S + 2,
        {"generations": 8, "away_s": 5}, {"generations": 100, "away_s": 60},
    ),
    "out-of-memory": Scenario(
        redis_faults.out_of_memory, "full servers", "full to done", None,
        {"rounds": 1, "generations": 12}, {"rounds": 10, "generations": 40},
    ),
    "queue-flushed": Scenario(
        two_server_faults.queue_flushed, "generations", "flush to next event", 3 * LEASE_S,
        {"rounds": 1, "generations": 16}, {"rounds": 10, "generations": 40},
    ),
    "queue-emptied": Scenario(
        two_server_faults.queue_emptied, "empty queues", "kill to next event", None,
        {"kills": 3, "generations": 16, "at once": 12}, {"kills": 50, "generations": 300, "at once": 20},
    ),
    "queue-failover": Scenario(
        two_server_faults.queue_failover, "failovers", "failover to next event", None,
        {"failovers": 1, "generations": 12, "at once": 8}, {"failovers": 20, "generations": 300, "at once": 20},
    ),
    "log-rolled-back": Scenario(
        two_server_faults.log_rolled_back, "lost ends", "restart to done", 3 * LEASE_S + 5,
        {"rounds": 1, "generations": 10}, {"rounds": 10, "generations": 40},
    ),
    "log-failover": Scenario(
        two_server_faults.log_failover, "failovers", "failover to next event", None,
        {"failovers": 1, "generations": 12, "at once": 8}, {"failovers": 20, "generations": 300, "at once": 20},
        ON_A_SERVER,
    ),
    "primary-kills": Scenario(
        cluster_faults.primary_kills, "SIGKILLs", "kill to next event", None,
        {"kills": 1, "generations": 12, "at once": 12}, {"kills": 20, "generations": 300, "at once": 20}, ON_A_CLUSTER,
    ),
    "primary-pauses": Scenario(
        cluster_faults.primary_pauses, "SIGSTOPs", "pause to next event", None,
        {"pauses": 1, "generations": 12, "at once": 12}, {"pauses": 20, "generations": 300, "at once": 20},
        ON_A_CLUSTER,
    ),
    "slots-moved": Scenario(
        cluster_faults.slots_moved, "slots", "longest gap between two events", cluster_faults.GAP_S,
        {"rounds": 2, "logs": 24, "tokens": 60}, {"rounds": 4, "logs": 200, "tokens": 160}, ON_A_CLUSTER,
    ),
    "nodes-join": Scenario(
        cluster_faults.nodes_join, "nodes", "longest gap between two events", cluster_faults.GAP_S,
        {"nodes": 1, "generations": 12, "at once": 12}, {"nodes": 3, "generations": 100, "at once": 20}, ON_A_CLUSTER,
    ),
    "nodes-leave": Scenario(
        cluster_faults.nodes_leave, "nodes", "longest gap between two events", cluster_faults.GAP_S,
        {"nodes": 1, "generations": 12, "at once": 12}, {"nodes": 3, "generations": 100, "at once": 20}, ON_A_CLUSTER,
    ),
    "frontend-partitioned": Scenario(
        cluster_faults.frontend_partitioned, "partitions", "partition to next event", None,
        {"partitions": 1, "generations": 12, "at once": 12}, {"partitions": 20, "generations": 300, "at once": 20},
        ON_A_CLUSTER,
    ),
    "disturbances": Scenario(
        network_faults.disturbances, "disturbances", "disturbance to next event", None,
        {"seconds": 4, "at once": 10}, {"seconds": 120, "at once": 40},
    ),
    "reply-cut": Scenario(
        network_faults.reply_cut, "appended rows", "", None,
        {"rows": 500, "at once": 8}, {"rows": 100_000, "at once": 100},
    ),
    "cancel-races": Scenario(
        client_faults.cancel_races, "races", "cancel to answer", None,
        {"races": 150, "at once": 20}, {"races": 10_000, "at once": 40},
    ),
    "hostile-caller": Scenario(
        caller_faults.hostile_caller, "hostile requests", "another caller's POST", None,
        {"seconds": 1, "tolerance": 40}, {"seconds": 12, "tolerance": 1},
    ),
    "resume-equality": Scenario(
        openai_faults.resume_equality, "resumptions", "", None,
        {"transcripts": 20, "every": 3}, {"transcripts": 1000, "every": 1},
    ),
    "retry-storm": Scenario(
        openai_faults.retry_storm, "attempts", "last lost reply to answer", None,
        {"requests": 16, "at once": 16}, {"requests": 200, "at once": 40},
    ),
    "openai-cancel-races": Scenario(
        openai_faults.openai_cancel_races, "races", "cancel to answer", None,
        {"races": 100, "at once": 20}, {"races": 1250, "at once": 20},
    ),
    "client-gone": Scenario(
        leaving_faults.client_gone, "generations", "leaving to cancelled", None,
        {"clients": 14}, {"clients": 210},
    ),
    "caller-limits": Scenario(
        limit_faults.caller_limits, "SIGKILLs", "last kill to as many runs as may", limit_faults.LONGEST_S,
        {"workers": 3, "kills": 4, "kills until a check": 2, "aborts at once": 3, "losses": 1},
        {"workers": 4, "kills": 200, "kills until a check": 20, "aborts at once": 3, "losses": 5},
    ),
    "cursor-fuzz": Scenario(
        client_faults.cursor_fuzz, "cursors", "", None,
        {"cursors": 400, "at once": 60}, {"cursors": 10_000, "at once": 100},
    ),
}  # fmt: skip
