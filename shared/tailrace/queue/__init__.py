"""The queue of generations that wait for a worker, and the indexes beside it."""

from tailrace.queue.arq_jobs import DELIVER_WEBHOOKS, JOB, QUARANTINE, dump_job, load_job
from tailrace.queue.index import FREE, Charge, Claim, Usage
from tailrace.queue.queue import QUEUE_SERVER, Load, Queue, Submission
from tailrace.queue.upstream_calls import Breaker, UpstreamCalls, UpstreamUsage

__all__ = [
    "DELIVER_WEBHOOKS", "FREE", "JOB", "QUARANTINE", "QUEUE_SERVER", "Breaker", "Charge", "Claim", "Load", "Queue",
    "Submission", "UpstreamCalls", "UpstreamUsage", "Usage", "dump_job", "load_job",
]  # fmt: skip
