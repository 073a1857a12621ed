"""The banner of `tailrace dev`: its text, and what it waits for."""

from pathlib import Path
from typing import Any

import pytest

from tailrace.errors import RedisUnavailable
from tailrace_cli import banner, local_http

EXPECTED = """
  Tailrace   http://127.0.0.1:8081
             port 8080 is taken by another program; --port chooses one
  upstream   Ollama
  models     llama3.2, qwen3:8b
  Redis      redis://127.0.0.1:1/0
  answers    kept for 7 days under /answers
  processes  frontend 3 · worker 2

  Ask a question and reload the page during the answer. Ctrl-C stops everything.
"""


class Workers:
    """A presence of workers whose counts are given, the last one for ever; an exception is raised."""

    def __init__(self, *counts: int | Exception) -> None:
        self._counts = list(counts)

    async def count(self) -> int:
        count = self._counts.pop(0) if len(self._counts) > 1 else self._counts[0]
        if isinstance(count, Exception):
            raise count
        return count


def banner_with(**values: Any) -> str:
    given: dict[str, Any] = {
        "url": "http://127.0.0.1:8081", "note": "port 8080 is taken by another program; --port chooses one",
        "upstream": "Ollama", "models": ["llama3.2", "qwen3:8b"], "redis": "redis://127.0.0.1:1/0",
        "data_dir": Path("/answers"), "retention_s": 7 * 86_400, "processes": [("frontend", 3), ("worker", 2)],
    }  # fmt: skip
    return banner.text(**given | values)


def test_banner_has_a_line_for_each_thing_that_is_known() -> None:
    assert banner_with() == EXPECTED
    assert "models" not in banner_with(models=[])
    assert "  models     none listed: It refuses.\n" in banner_with(models=[], no_models="It refuses.")
    assert "none listed" not in banner_with(no_models="It refuses.")
    assert "\n\n  upstream" not in banner_with(note="")
    assert "port 8080" not in banner_with(note="")


def test_long_list_of_models_is_shortened() -> None:
    names = [f"m{n}" for n in range(99)]
    assert banner.shortened(names) == "m0, m1, m2, m3, m4 and 94 more"
    assert banner.shortened(names[:5]) == "m0, m1, m2, m3, m4"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(7 * 86_400, "7 days"), (86_400, "1 day"), (7200, "2 hours"), (5400, "90 minutes"), (61, "61 seconds")],
)
def test_duration_is_in_the_greatest_unit_that_divides_it(seconds: int, expected: str) -> None:
    assert banner.duration(seconds) == expected


@pytest.fixture(autouse=True)
def _short_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(banner, "POLL_S", 0.001)
    monkeypatch.setattr(banner, "MODELS_S", 60.0)


@pytest.fixture
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(banner, "READY_S", 0.02)
    monkeypatch.setattr(banner, "MODELS_S", 0.02)


async def test_ready_is_when_the_frontend_answers_and_a_worker_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def get(url: str, **_: object) -> bytes:
        asked.append(url)
        if len(asked) < 3:
            raise OSError("refused")
        return b"{}"

    monkeypatch.setattr(local_http, "get", get)
    workers: Any = Workers(RedisUnavailable(), 0, 1)
    assert await banner.wait_until_ready("http://127.0.0.1:1", workers) == ""
    assert asked == ["http://127.0.0.1:1/healthz"] * 5


@pytest.mark.usefixtures("_short_waits")
async def test_frontend_that_does_not_answer_is_named() -> None:
    workers: Any = Workers(1)
    missing = await banner.wait_until_ready("http://127.0.0.1:1", workers)
    assert missing == "the frontend at http://127.0.0.1:1 does not answer"


@pytest.mark.usefixtures("_short_waits")
@pytest.mark.parametrize(
    ("count", "expected"), [(0, "no worker is ready"), (RedisUnavailable("refused"), "Redis does not answer: refused")]
)
async def test_worker_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, count: int | Exception, expected: str
) -> None:
    monkeypatch.setattr(local_http, "get", lambda *_, **__: b"{}")
    workers: Any = Workers(count)
    assert await banner.wait_until_ready("http://127.0.0.1:1", workers) == expected


class Models:
    """The reports of workers: each answer is given, the last one for ever; an exception is raised."""

    def __init__(self, *answers: list[str] | Exception) -> None:
        self._answers = list(answers)

    async def names(self) -> list[str]:
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def failure(self) -> str:
        return "It refuses."


async def test_models_are_those_that_the_worker_reports() -> None:
    models: Any = Models([], [], ["b", "a"])
    assert await banner.fetch_models(models) == (["b", "a"], "")


@pytest.mark.usefixtures("_short_waits")
@pytest.mark.parametrize(("answer", "reason"), [([], "It refuses."), (RedisUnavailable(), "")])
async def test_models_that_are_not_reported_in_time_are_left_out(answer: list[str] | Exception, reason: str) -> None:
    models: Any = Models(answer)
    assert await banner.fetch_models(models) == ([], reason)
