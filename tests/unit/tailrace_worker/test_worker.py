from typing import Any

import pytest

from tailrace.settings import Settings
from tailrace_worker import worker
from tailrace_worker.worker import JOBS, GenerationWorker


async def test_job_runner_knows_every_job_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    async def another_job(self: GenerationWorker, _: dict[Any, Any], generation_id: str, job_id: str) -> None:
        """As a webhook's delivery would be."""

    monkeypatch.setattr(worker, "JOBS", {**JOBS, "another_job": another_job})
    process = GenerationWorker(Settings())
    assert sorted(process.job_runner.functions) == ["another_job", "run_generation"]
    await process._close()


@pytest.mark.parametrize(("jobs", "neighbours"), [(0, 0), (1, 0), (3, 2)])
async def test_neighbours_of_a_generation_are_the_worker_s_other_jobs(jobs: int, neighbours: int) -> None:
    process = GenerationWorker(Settings())
    process.job_runner.job_counter = jobs
    assert process._count_neighbours() == neighbours
    await process._close()
