"""The queue of generations that wait for a worker, and the indexes beside it."""

from tailrace.queue.arq_jobs import JOB, QUARANTINE, dump_job, load_job
from tailrace.queue.index import Claim
from tailrace.queue.queue import QUEUE_SERVER, Load, Queue, Submission

__all__ = ["JOB", "QUARANTINE", "QUEUE_SERVER", "Claim", "Load", "Queue", "Submission", "dump_job", "load_job"]
