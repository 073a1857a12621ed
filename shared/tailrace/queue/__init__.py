"""The queue of generations that wait for a worker, and the indexes beside it."""

from tailrace.queue.queue import JOB, QUARANTINE, Queue, dump_job, load_job

__all__ = ["JOB", "QUARANTINE", "Queue", "dump_job", "load_job"]
