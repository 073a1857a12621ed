"""The queue of generations that wait for a worker, and the indexes beside it."""

from tailrace.queue.arq_jobs import DELIVER_WEBHOOKS, JOB, QUARANTINE, Parked, Taken, dump_job, job_id_of, load_job
from tailrace.queue.caller_policies import CallerLimits, CallerPolicies, CallerPolicy, LimitsOf, limits_of_settings
from tailrace.queue.index import FREE, Charge, Claim, Place, Usage
from tailrace.queue.queue import QUEUE_SERVER, Load, Queue, Submission
from tailrace.queue.quotas import Budgets, CallerUse, Quota, Reservation, Terms
from tailrace.queue.rights import Right, RightOf
from tailrace.queue.upstream_calls import Breaker, UpstreamCalls, UpstreamUsage

__all__ = [
    "DELIVER_WEBHOOKS", "FREE", "JOB", "QUARANTINE", "QUEUE_SERVER", "Breaker", "Budgets", "CallerLimits",
    "CallerPolicies", "CallerPolicy", "CallerUse", "Charge", "Claim", "LimitsOf", "Load", "Parked", "Place", "Queue",
    "Quota", "Reservation", "Right", "RightOf", "Submission", "Taken", "Terms", "UpstreamCalls", "UpstreamUsage",
    "Usage", "dump_job", "job_id_of", "limits_of_settings", "load_job",
]  # fmt: skip
