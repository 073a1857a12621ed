"""`tailrace.toml`: the upstreams, in the order in which they are asked.

    [[upstreams]]
    name = "primary"
    base_url = "http://127.0.0.1:8000/v1"
    api_key_env = "PRIMARY_KEY"
    dialect = "chat"
    profile = "vllm"
    models = ["llama-*"]
    aliases = { fast = "llama-3-8b" }
    max_concurrency = 64
    background = false
    prices = { "llama-*" = { input = 0.1, output = 0.4 } }

Without the file there is one upstream: `OPENAI_BASE_URL` and `OPENAI_API_KEY`, as the OpenAI SDK reads them.

A key is never in the file, only the name of the variable that has it, so that the file may be shown and committed.
"""

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    StrictStr,
    ValidationError,
)

from tailrace.errors import Misconfigured
from tailrace.events import Json
from tailrace.settings import Settings
from tailrace.upstreams.addresses import FORM, is_address
from tailrace.upstreams.prices import Price
from tailrace.upstreams.profiles import PROFILES, Profile
from tailrace.upstreams.toml_errors import SETTING, Problem, misconfigured, not_toml, problems_of
from tailrace.upstreams.toml_lines import Path as Place

DialectName = Literal["chat", "responses"]
MAX_BYTES = 256 * 1024
VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*", re.ASCII)
"""In capitals only: keys have other letters, and the name of a missing variable is logged."""


def _profile(given: Any) -> Profile:
    if isinstance(given, Profile):
        return given
    if not isinstance(given, str) or given not in PROFILES:
        raise ValueError(f"there is no such profile; the profiles are {', '.join(PROFILES)}")
    return PROFILES[given]


def _address(given: str) -> str:
    """
    Raises:
        ValueError: it is no address, or it contains a secret. The message never repeats the address.
    """
    given = given.strip()
    if not is_address(given):
        raise ValueError(f"{FORM}, without spaces")
    if "@" in urlsplit(given).netloc:
        raise ValueError("an address has no user and no password: api_key_env names the variable with the key")
    if "?" in given or "#" in given:
        raise ValueError("an address has no `?` and no `#`: paths of the API are added to its end")
    return given


def _variable(given: str) -> str:
    if given and not VARIABLE.fullmatch(given):
        raise ValueError("it is the name of a variable of the environment, in capitals, never the key itself")
    return given


ModelName = Annotated[StrictStr, Field(min_length=1, max_length=256)]


class UpstreamConfig(BaseModel):
    """One upstream.

    `base_url`: "" for the SDK's own default. `api_key_env`: the variable with the key; "" for an upstream without
    one. `models`: what it serves; `*` in a name stands for any characters. `aliases`: names for callers, each for
    one of its models. `max_concurrency`: calls of all workers together; None: any number. `background`: whether it
    may run and keep answers by itself, which the Responses API alone can. `prices`: by model, as in `models`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
    base_url: Annotated[StrictStr, AfterValidator(_address)]
    api_key_env: Annotated[StrictStr, AfterValidator(_variable)] = ""
    dialect: DialectName = "chat"
    profile: Annotated[InstanceOf[Profile], BeforeValidator(_profile)] = PROFILES["generic"]
    models: Annotated[tuple[ModelName, ...], Field(min_length=1)] = ("*",)
    aliases: Mapping[ModelName, ModelName] = {}
    max_concurrency: Annotated[int, Field(ge=1, strict=True)] | None = None
    background: Annotated[bool, Field(strict=True)] = False
    prices: Mapping[ModelName, Price] = {}

    def name_of(self, model: str) -> str | None:
        """What this upstream calls the model that a caller names; None where it does not serve it."""
        if model in self.aliases:
            return self.aliases[model]
        return model if any(is_match(each, model) for each in self.models) else None

    @property
    def can_continue(self) -> bool:
        """Whether it can be asked for the rest of a partial answer. Only Chat Completions has a place for one."""
        return self.profile.continues is not None and self.dialect == "chat"

    def price_of(self, model: str) -> Price | None:
        """The price of a model by the upstream's name for it: of the first entry that fits it, exact names before
        patterns; None where none is known."""
        patterns = (price for each, price in self.prices.items() if is_match(each, model))
        return self.prices.get(model) or next(patterns, None)

    def key(self, environment: Mapping[str, str] = os.environ) -> str:
        """The API key; "" where there is none."""
        return environment.get(self.api_key_env, "") if self.api_key_env else ""


class Target(NamedTuple):
    """An upstream that serves a model, and its name for the model."""

    upstream: UpstreamConfig
    model: str


DEFAULT_UPSTREAM = UpstreamConfig.model_construct(
    name="default", base_url="", api_key_env="OPENAI_API_KEY", dialect="chat", profile=PROFILES["generic"],
    models=("*",), aliases={}, max_concurrency=None, background=False, prices={},
)  # fmt: skip
"""The upstream without a file, with the default settings."""


class _Document(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid")

    upstreams: Annotated[list[UpstreamConfig], Field(min_length=1)]


class Upstreams:
    """The upstreams in the order of the file. `is_default`: there is no file, and one upstream."""

    def __init__(self, configs: Sequence[UpstreamConfig], *, is_default: bool = False) -> None:
        self.all = tuple(configs)
        self.is_default = is_default
        self._aliases = {alias for each in configs for alias in each.aliases}

    @classmethod
    def load(cls, settings: Settings) -> Self:
        """The upstreams of `TAILRACE_CONFIG`, else the one of `OPENAI_BASE_URL`.

        Raises:
            Misconfigured: the file cannot be read, or a value in it is wrong: with its line.
        """
        if settings.config:
            return cls(read(Path(settings.config)))
        if settings.upstream_profile not in PROFILES:
            raise Misconfigured(f"TAILRACE_UPSTREAM_PROFILE: there is no such profile; {', '.join(PROFILES)} are")
        profile = PROFILES[settings.upstream_profile]
        given = {"dialect": settings.upstream_dialect, "background": settings.upstream_background, "profile": profile}
        default = DEFAULT_UPSTREAM.model_copy(update=given)
        return cls([default], is_default=True)

    def targets(self, model: str) -> list[Target]:
        """The upstreams that serve a model, in the order in which they are asked; [] where none does.

        A name that is an alias somewhere is served where it is an alias, or where `models` has it without a `*`: an
        upstream that serves `*` does not know other upstreams' aliases.
        """
        is_alias = model in self._aliases
        named = ((each, each.name_of(model)) for each in self.all)
        return [
            Target(each, name)
            for each, name in named
            if name is not None and (not is_alias or model in each.aliases or model in each.models)
        ]

    def can_continue(self, model: str) -> bool:
        """Whether any upstream that serves the model can be asked for the rest of a partial answer."""
        return any(target.upstream.can_continue for target in self.targets(model))

    def names(self, listed: Mapping[str, Sequence[str]]) -> list[str]:
        """The models that callers may name, each once: of each upstream its aliases, what `models` has without a `*`,
        and what fits the rest of what it lists. `listed`: by the upstream's name."""
        found: dict[str, None] = {}
        for each in self.all:
            named = (model for model in each.models if "*" not in model)
            fitting = (model for model in listed.get(each.name, ()) if each.name_of(model) is not None)
            found |= dict.fromkeys((*each.aliases, *named, *fitting))
        return list(found)

    def check_keys(self, environment: Mapping[str, str] = os.environ) -> None:
        """Check that every key of the file is there, and that a header can have it. Only workers need them.

        Raises:
            Misconfigured: with the variables, never with their values.
        """
        of = "" if self.is_default else " (of the upstream {})"
        variables = {each.api_key_env: each.api_key_env + of.format(each.name) for each in self.all if each.api_key_env}
        if missing := [] if self.is_default else [variables[each] for each in variables if not environment.get(each)]:
            raise Misconfigured(f"{SETTING}: the environment of this process has no {', '.join(missing)}")
        for variable, named in variables.items():
            if problem := _problem_of_key(environment.get(variable, "")):
                raise Misconfigured(f"{named} is no key: {problem}")


def _problem_of_key(key: str) -> str:
    """Why no header of HTTP can have it; "" where one can."""
    if key != key.strip():
        return "it begins or ends with a space or a line end"
    if not (key.isascii() and key.isprintable()):
        return "it has characters other than printable ASCII"
    return ""


def read(file: Path) -> list[UpstreamConfig]:
    """The upstreams of a file.

    Raises:
        Misconfigured: with the file, and the line of what is wrong.
    """
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_BYTES + 1)
        text = content.decode()
    except OSError as error:
        raise Misconfigured(f"{SETTING}: cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Misconfigured(f"{SETTING}: {file}, line {line}: it is not UTF-8") from None
    if len(content) > MAX_BYTES:
        raise Misconfigured(f"{SETTING}: {file} has more than {MAX_BYTES // 1024} KiB")
    return parse(text, str(file))


def parse(text: str, source: str = "tailrace.toml") -> list[UpstreamConfig]:
    """The upstreams of a text. `source`: how errors name it.

    Raises:
        Misconfigured: with the line of each thing that is wrong.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise not_toml(text, source, error) from None
    except RecursionError:
        raise Misconfigured(f"{SETTING}: {source}: its values are nested too deeply") from None
    problems = _conflicts(document)
    try:
        configs = _Document.model_validate(document).upstreams
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)
        raise misconfigured(text, source, [*problems, *problems_of(wrong, _known_keys)]) from None
    if problems:
        raise misconfigured(text, source, problems)
    return configs


def _conflicts(document: Json) -> list[Problem]:
    """What is wrong between values, whether or not each of them is right."""
    problems: list[Problem] = []
    seen: set[str] = set()
    configs = document.get("upstreams")
    for index, config in enumerate(configs if isinstance(configs, list) else ()):
        if not isinstance(config, dict):
            continue
        place, name, aliases = ("upstreams", index), config.get("name"), config.get("aliases")
        if isinstance(name, str):
            if name in seen:
                problems.append(((*place, "name"), "name: another upstream has the same name"))
            seen.add(name)
        if config.get("background") is True and config.get("dialect", "chat") == "chat":
            problem = 'background: only an upstream with `dialect = "responses"` can'
            problems.append(((*place, "background"), problem))
        problems += [
            ((*place, "aliases", alias), f"aliases.{alias}: a `*` means nothing in an alias")
            for alias, model in (aliases.items() if isinstance(aliases, dict) else ())
            if "*" in alias or (isinstance(model, str) and "*" in model)
        ]
    return problems


def _known_keys(place: Place) -> Sequence[str]:
    """The keys that may stand where this one is."""
    if len(place) < 3:
        return [*_Document.model_fields]
    return [*(Price if "prices" in place else UpstreamConfig).model_fields]


def is_match(pattern: str, model: str) -> bool:
    """Whether a model's name fits a pattern, in which `*` stands for any characters, also none.

    A regular expression would try every place of every `*`: of 4 in a name of 256 characters that is minutes.
    """
    beginning, *middle = pattern.split("*")
    if not middle:
        return pattern == model
    *middle, end = middle
    at, last = len(beginning), len(model) - len(end)
    if at > last or not (model.startswith(beginning) and model.endswith(end)):
        return False
    for part in middle:
        at = model.find(part, at, last) + len(part)
        if at < len(part):
            return False
    return True
