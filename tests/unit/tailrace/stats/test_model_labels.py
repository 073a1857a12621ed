from pathlib import Path

from support.upstreams import write_config
from tailrace.settings import Settings
from tailrace.stats.model_labels import ModelLabels
from tailrace.upstreams import CurrentUpstreams


def test_label_is_a_configured_name_or_other() -> None:
    settings = Settings(models="small, large, fast-*", model="mine")
    labels = ModelLabels(settings, CurrentUpstreams(settings))
    names = ("small", "large", "mine", "fast-1", "fast-*", "*", "", "small ")
    assert [labels.label(name) for name in names] == ["small", "large", "mine", *["other"] * 5]


async def test_names_of_the_file_are_labels_once_it_was_read(tmp_path: Path) -> None:
    table = '[[upstreams]]\nname = "one"\nbase_url = "http://127.0.0.1:1/v1"\n'
    table += 'models = ["{}", "x-*"]\naliases = {{fast = "{}"}}\n'
    settings = Settings(config=str(write_config(tmp_path / "tailrace.toml", table.format("a", "a"))))
    upstreams = CurrentUpstreams(settings)
    labels = ModelLabels(settings, upstreams)
    assert [labels.label(name) for name in ("a", "fast", "x-1", "b")] == ["a", "fast", "other", "other"]
    write_config(tmp_path / "tailrace.toml", table.format("b", "b"))
    assert await upstreams.reload()
    assert [labels.label(name) for name in ("a", "fast", "b")] == ["other", "fast", "b"]
