from pathlib import Path
from typing import Any

import pytest

from tailrace.errors import Misconfigured
from tailrace.settings import Settings
from tailrace.upstreams import DEFAULT_UPSTREAM, PROFILES, Target, UpstreamConfig, Upstreams
from tailrace.upstreams.config import is_match, parse, read
from tailrace.upstreams.toml_errors import EXPECTED, MAX_SHOWN
from tailrace.upstreams.toml_lines import Path as Place

TEXT = """\
[[upstreams]]
name = "primary"
base_url = "http://127.0.0.1:8000/v1"
api_key_env = "PRIMARY_KEY"
dialect = "chat"
profile = "vllm"
models = ["llama-*", "qwen"]
aliases = { fast = "llama-3-8b" }
max_concurrency = 64
prices = { "llama-*" = { input = 0.1, output = 0.4 }, "llama-3-8b" = { input = 0, output = 0.2 } }

[[upstreams]]
name = "backup"
base_url = "https://api.example.com/v1"
dialect = "responses"
"""

ONE = '[[upstreams]]\nname = "one"\nbase_url = "http://one.test/v1"\n'


def upstreams(text: str = TEXT) -> Upstreams:
    return Upstreams(parse(text))


def problem(old: str, new: str) -> str:
    assert old in TEXT
    with pytest.raises(Misconfigured) as raised:
        parse(TEXT.replace(old, new, 1))
    return raised.value.message


def test_file_has_every_field() -> None:
    primary, backup = parse(TEXT)
    assert primary.name == "primary"
    assert primary.base_url == "http://127.0.0.1:8000/v1"
    assert primary.api_key_env == "PRIMARY_KEY"
    assert (primary.dialect, backup.dialect) == ("chat", "responses")
    assert (primary.profile, backup.profile) == (PROFILES["vllm"], PROFILES["generic"])
    assert (primary.models, backup.models) == (("llama-*", "qwen"), ("*",))
    assert (primary.aliases, backup.aliases) == ({"fast": "llama-3-8b"}, {})
    assert (primary.max_concurrency, backup.max_concurrency) == (64, None)


def test_targets_are_in_the_order_of_the_file() -> None:
    loaded = upstreams()
    primary, backup = loaded.all
    assert loaded.targets("llama-70b") == [Target(primary, "llama-70b"), Target(backup, "llama-70b")]
    assert loaded.targets("gpt") == [Target(backup, "gpt")]


def test_alias_is_sent_as_the_upstreams_name_and_only_where_it_is_known() -> None:
    loaded = upstreams()
    assert loaded.targets("fast") == [Target(loaded.all[0], "llama-3-8b")]
    both = upstreams(TEXT + 'aliases = { fast = "gpt-mini" }\n')
    assert [target.model for target in both.targets("fast")] == ["llama-3-8b", "gpt-mini"]
    named = upstreams(TEXT + 'models = ["fast", "*"]\n')
    assert [target.model for target in named.targets("fast")] == ["llama-3-8b", "fast"]


def test_model_that_no_upstream_serves_has_no_target() -> None:
    assert upstreams(TEXT + 'models = ["gpt-*"]\n').targets("mistral") == []


@pytest.mark.parametrize(
    ("pattern", "model", "fits"),
    [
        ("*", "", True),
        ("llama-*", "llama-", True),
        ("llama-*", "llama", False),
        ("*/llama*chat", "meta/llama-3-chat", True),
        ("*/llama*chat", "meta/llama-3-chat-2", False),
        ("gpt-4.1", "gpt-4x1", False),
        ("a[bc]?", "a[bc]?", True),
        ("a[bc]?", "abx", False),
        ("LLAMA", "llama", False),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("*ab*b", "ab", False),
        ("*ab*b", "xabxb", True),
        ("**", "", True),
        ("*\n*", "a\nb", True),
    ],
)
def test_star_is_the_only_wildcard(pattern: str, model: str, fits: bool) -> None:
    assert is_match(pattern, model) is fits


def test_price_of_an_exact_name_precedes_that_of_a_pattern() -> None:
    primary, backup = parse(TEXT)
    first, exact = primary.price_of("llama-70b"), primary.price_of("llama-3-8b")
    assert first is not None
    assert exact is not None
    assert (first.input, first.output) == (0.1, 0.4)
    assert (exact.input, exact.output) == (0.0, 0.2)
    assert primary.price_of("qwen") is None
    assert backup.price_of("llama-70b") is None


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('"vllm"', '"vlm"', "line 6: profile: there is no such profile; the profiles are openai, azure"),
        ("= 64", "= 0", "line 9: max_concurrency: it must be a whole number, 1 or more"),
        ("= 64", '= "64"', "line 9: max_concurrency: it must be a whole number, 1 or more"),
        ("max_concurrency = 64", "background = true", "line 9: background: only an upstream with `dialect ="),
        ("= 64", "= true", "line 9: max_concurrency: it must be a whole number, 1 or more"),
        ("= 0.4 ", "= -1 ", "line 10: prices.llama-*.output: it must be a number of US dollars, 0 or more"),
        ("= 0.4 ", "= nan ", "line 10: prices.llama-*.output: it must be a number of US dollars"),
        ("input = 0.1, ", "", "line 10: prices.llama-*.input: it is missing"),
        (
            "input = 0.1",
            "in = 1, input = 0.1",
            "line 10: prices.llama-*.in: there is no such key; the keys here: input, output, cached",
        ),
        ('"backup"', '"primary"', "line 13: name: another upstream has the same name"),
        ('"backup"', '"back up"', "line 13: name: it must be up to 64 letters, digits,"),
        ('name = "backup"\n', "", "line 12: name: it is missing"),
        ('"responses"', '"anthropic"', 'line 15: dialect: it must be "chat" or "responses"'),
        ('"qwen"', "7", "line 7: models, entry 2: it must be a name in quotes"),
        ('["llama-*", "qwen"]', "[]", 'line 7: models: it must be a list of one name or more, as in ["llama-*"]'),
        ("dialect", "dialekt", "line 5: dialekt: there is no such key; the keys here: name, base_url, api_key_env"),
        ("fast =", '"f*" =', "line 8: aliases.f*: a `*` means nothing in an alias"),
        ("http://127", "127", "line 3: base_url: it begins with http:// or https:// and a host"),
        ("http://127.0.0.1:8000", "http://:8000", "line 3: base_url: it begins with"),
        ("http://127", "http://me:s3cret@127", "line 3: base_url: an address has no user and no password"),
        ("0.0.1:8000/v1", "0.0.1:8000/v1 s3cret", "line 3: base_url: it begins with http:// or https:// and a host"),
        ("0.0.1:8000/v1", "0.0.1:8000/v1?key=s3cret", "line 3: base_url: an address has no `?` and no `#`"),
        ("0.0.1:8000/v1", "0.0.1:8000/v1#s3cret", "line 3: base_url: an address has no `?` and no `#`"),
        ("PRIMARY_KEY", "sk-s3cret-0123456789", "line 4: api_key_env: it is the name of a variable"),
        ("PRIMARY_KEY", "gsk_s3cret0123456789", "line 4: api_key_env: it is the name of a variable"),
        ("[[upstreams]]", "[[upstream]]", "line 1: upstream: there is no such key; the keys here: upstreams"),
        ("= 64", "= 64 65", "line 9, column 22: Expected newline"),
        ('dialect = "responses"\n', "[upstreams", "line 15: Cannot declare ('upstreams',) twice"),
        ('profile = "vllm"', 'name = "again"', "line 6, column 15: Cannot overwrite a value"),
    ],
)
def test_error_has_the_line_and_never_the_value(old: str, new: str, expected: str) -> None:
    message = problem(old, new)
    assert f"TAILRACE_CONFIG: tailrace.toml: {expected}" in message
    assert "s3cret" not in message


def test_every_error_of_a_file_is_reported_at_once() -> None:
    message = problem('"vllm"\n', '"vlm"\nfoo = 1\n')
    assert "line 6: profile" in message
    assert "; line 7: foo" in message


def problems(text: str) -> list[str]:
    with pytest.raises(Misconfigured) as raised:
        parse(text)
    return raised.value.message.removeprefix("TAILRACE_CONFIG: tailrace.toml: ").split("; line ")


def test_values_that_contradict_others_are_reported_beside_wrong_ones() -> None:
    text = TEXT.replace("64", "0").replace('"backup"', '"primary"').replace("fast =", '"f*" =')
    assert [each.removeprefix("line ")[:11] for each in problems(text + "background = 7\n[[upstreams]]\n")] == [
        "8: aliases.", "9: max_conc", "13: name: a", "16: backgro", "17: name: i", "17: base_ur",
    ]  # fmt: skip


def test_value_of_an_inline_array_has_its_own_line() -> None:
    text = 'upstreams = [\n  { name = "one", base_url = "http://one.test" },\n  { name = "one",\n base_url = 7 } ]\n'
    assert problems(text.replace(",\n base", ", base")) == [
        "line 3: name: another upstream has the same name",
        '3: base_url: it must be an address in quotes, as in "http://127.0.0.1:8000/v1"',
    ]
    assert problems(TEXT + 'models = [\n  "a",  # the first\n\n  "b", 7,\n]\n') == [
        "line 19: models, entry 3: it must be a name in quotes, of 1 to 256 characters"
    ]


@pytest.mark.parametrize("key", [*EXPECTED], ids=str)
def test_wrong_value_is_answered_with_what_it_must_be(key: Place) -> None:
    wrong = "2000-01-01"  # a date, which no key takes
    inner = key[2:]
    value = wrong
    for part in reversed(inner[1:]):
        value = f"[{value}]" if inner[0] == "models" else f"{{ {str(part).replace('*', 'any')} = {value} }}"
    text = f"[[upstreams]]\n{inner[0]} = {value}\n" if inner else f"upstreams = {f'[{wrong}]' if key[1:] else wrong}\n"
    expected = "there is no such profile" if key[-1] == "profile" else f": it must be {EXPECTED[key]}"
    (found,) = [each for each in problems(text) if "it is missing" not in each]
    assert expected in found


@pytest.mark.parametrize("key", UpstreamConfig.model_fields)
def test_every_key_has_words_for_what_it_must_be(key: str) -> None:
    assert ("upstreams", "*", key) in EXPECTED


@pytest.mark.parametrize(
    "text",
    [
        "[[upstreams]]\n'' = 1\naliases = { '' = '' }", "[[upstreams]]\nprices = { a = { input = 1 } }",
        "[upstreams]\nname = 1", "upstreams = [[]]", "upstreams = {}", "x = 1", "[[upstreams]]\nmodels = 'llama'",
        "[[upstreams]]\naliases = ['a']\nprices = 7\nmax_concurrency = 1.5\nbackground = 'yes'\nname = ''",
    ],
)  # fmt: skip
def test_message_has_no_word_of_the_validation_library(text: str) -> None:
    message = " ".join(problems(text))
    for word in ("tuple", "dictionary", "instance", "pydantic", "mapping", "nput should", "valid ", "UpstreamConfig"):
        assert word not in message


def test_long_list_of_problems_is_cut() -> None:
    message = " ".join(problems(ONE + f"models = [{'7, ' * 1000}]\n"))
    assert message.count("it must be") == MAX_SHOWN
    assert message.endswith(f"; and {1000 - MAX_SHOWN} more")


def test_values_that_are_nested_too_deeply_are_refused() -> None:
    assert problems("a = " + "[" * 100_000) == ["its values are nested too deeply"]


@pytest.mark.parametrize("text", ["", "# nothing\n", "upstreams = []\n"])
def test_file_without_an_upstream_is_refused(text: str) -> None:
    with pytest.raises(Misconfigured, match=r"line 1: upstreams: "):
        parse(text)


def test_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"cannot read .*missing\.toml: No such file"):
        read(tmp_path / "missing.toml")
    (tmp_path / "latin.toml").write_bytes(b"# \n# \xe9\n")
    with pytest.raises(Misconfigured, match=r"latin\.toml, line 2: it is not UTF-8"):
        read(tmp_path / "latin.toml")
    (tmp_path / "large.toml").write_bytes(b"#" * (256 * 1024 + 1))
    with pytest.raises(Misconfigured, match=r"large\.toml has more than 256 KiB"):
        read(tmp_path / "large.toml")


def test_settings_name_the_file(tmp_path: Path) -> None:
    file = tmp_path / "tailrace.toml"
    file.write_text(TEXT)
    loaded = Upstreams.load(Settings(config=str(file)))
    assert [each.name for each in loaded.all] == ["primary", "backup"]
    assert not loaded.is_default


def test_settings_without_a_file_have_one_upstream_that_serves_everything() -> None:
    loaded = Upstreams.load(Settings())
    assert loaded.is_default
    assert loaded.targets("any") == [Target(DEFAULT_UPSTREAM, "any")]
    assert (DEFAULT_UPSTREAM.base_url, DEFAULT_UPSTREAM.api_key_env) == ("", "OPENAI_API_KEY")
    other = Upstreams.load(Settings(upstream_dialect="responses", upstream_profile="azure")).all[0]
    assert (other.dialect, other.profile.name) == ("responses", "azure")
    with pytest.raises(Misconfigured, match="TAILRACE_UPSTREAM_PROFILE: there is no such profile; openai, "):
        Upstreams.load(Settings(upstream_profile="vlm"))


def test_keys_are_read_from_the_environment_and_missing_ones_are_named() -> None:
    loaded = upstreams()
    assert loaded.all[0].key({"PRIMARY_KEY": "k"}) == "k"
    assert loaded.all[1].key({"PRIMARY_KEY": "k"}) == ""
    loaded.check_keys({"PRIMARY_KEY": "k"})
    with pytest.raises(Misconfigured, match=r"has no PRIMARY_KEY \(of the upstream primary\)"):
        loaded.check_keys({})
    Upstreams.load(Settings()).check_keys({})


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("sk-abcdefghijklmnop\n", "it begins or ends with a space or a line end"),
        (" sk-abcdefghijklmnop", "it begins or ends with a space or a line end"),
        ("sk-abc\r\nX-Evil: 1", "it has characters other than printable ASCII"),
        ("sk-ünicode", "it has characters other than printable ASCII"),
        ("sk-\x00", "it has characters other than printable ASCII"),
    ],
)
def test_key_that_no_header_can_have_is_refused_by_the_name_of_its_variable(key: str, problem: str) -> None:
    with pytest.raises(Misconfigured) as raised:
        upstreams().check_keys({"PRIMARY_KEY": key})
    assert raised.value.message == f"PRIMARY_KEY (of the upstream primary) is no key: {problem}"
    with pytest.raises(Misconfigured) as raised:
        Upstreams.load(Settings()).check_keys({"OPENAI_API_KEY": key})
    assert raised.value.message == f"OPENAI_API_KEY is no key: {problem}"


def test_keys_may_have_any_printable_characters() -> None:
    Upstreams.load(Settings()).check_keys({"OPENAI_API_KEY": 'sk-a/b+c=:~ {}"\\'})


class CountedName(str):
    """Counts the searches in it."""

    __slots__ = ("searches",)

    def find(self, *given: Any) -> int:
        self.searches = getattr(self, "searches", 0) + 1
        return super().find(*given)


def test_pattern_is_matched_with_one_search_for_each_star() -> None:
    name = CountedName("-" * 256)
    assert not is_match("-*-*-*-*-*x", name)
    assert is_match("-*-*-*-*-*-", name)
    assert name.searches == 4
