"""The verdict on a mutant."""

import pytest

from system import chaos
from system.load import Run
from system.results import Play


@pytest.mark.parametrize(
    ("kinds", "verdict"),
    [
        ([], "SURVIVED"),
        (["aborted"], "SURVIVED"),
        (["no effect"], "SURVIVED"),
        (["lost"], "killed 1"),
        (["aborted", "lost"], "killed 1"),
    ],
)
async def test_mutant_is_killed_only_by_a_play_that_injected_its_fault(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kinds: list[str], verdict: str
) -> None:
    async def play(name: str, *_: object) -> Play:
        run = Run(name, 1, {}, [], lambda _: None)
        for kind in kinds:
            run.wrong(kind, "g1")
        return Play(run, 1.0, 1.0)

    monkeypatch.setattr(chaos, "play", play)
    assert await chaos.remove_guards(["zombies"], 1) == (verdict == "SURVIVED")
    assert verdict in capsys.readouterr().out
