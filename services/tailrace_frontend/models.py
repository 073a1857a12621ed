"""The models that callers may name: a list for all of them, and shorter ones for some.

A router as upstream may take further models from the fields `ALTERNATIVES`. They are checked as `model` is.
"""

from collections.abc import Callable, Iterator, Sequence

from tailrace.errors import Misconfigured, ModelNotFound
from tailrace.events import Json

ALTERNATIVES = ("models", "fallbacks")
"""Fields of OpenRouter and LiteLLM: models to try where `model` fails."""

SHOWN = 200
"""Characters of a model's name in an error."""


class AllowedModels:
    """The lists as `TAILRACE_MODELS` and `TAILRACE_MODELS_PER_CALLER` give them; an empty list allows every model.
    `default`: `TAILRACE_MODEL`. `is_served`: whether an upstream of `tailrace.toml` serves a model. `own_of`: the list
    that an operator has set for a caller, in the place of the setting's, and which allows nothing where it is empty;
    None: none."""

    def __init__(
        self,
        models: str,
        per_caller: str,
        default: str = "",
        is_served: Callable[[str], bool] = lambda _: True,
        own_of: Callable[[str], Sequence[str] | None] = lambda _: None,
    ) -> None:
        """
        Raises:
            Misconfigured: an entry of `per_caller` is not `caller=model model`, or a caller has two.
        """
        self._models = _split(models)
        self._default = default
        self._is_served = is_served
        self._own_of = own_of
        self._per_caller: dict[str, list[str]] = {}
        for position, entry in enumerate(_split(per_caller), 1):
            caller, separator, names = entry.partition("=")
            if not separator or not names.split() or caller in self._per_caller:
                raise Misconfigured(
                    f"TAILRACE_MODELS_PER_CALLER: entry {position} is not `caller=model model`, or its caller has one"
                )
            self._per_caller[caller] = names.split()

    def names_for(self, caller: str, upstream: Sequence[str] = ()) -> list[str]:
        """The models that the caller may use, without repetition: the default, those that the lists name whole, then
        those of the upstream. The first one is used where a request names none."""
        named = (each for each in (*self._models, *(self._own(caller) or ())) if not each.endswith("*"))
        listed = dict.fromkeys((self._default, *named, *upstream))
        return [each for each in listed if each and self.may_use(caller, each) and self._is_served(each)]

    def check_request(self, caller: str, request: Json) -> None:
        """
        Raises:
            ModelNotFound: the caller may not use a model that the request names.
        """
        for param, model in named_models(request):
            self.check(caller, model, param)

    def check(self, caller: str, model: str, param: str = "model") -> None:
        """
        Raises:
            ModelNotFound: the caller may not use this model, or no upstream serves it. (What a router as upstream falls
                back to, in the fields `ALTERNATIVES`, is its own.)
        """
        if not self.may_use(caller, model) or (param == "model" and not self._is_served(model)):
            shown = model[:SHOWN]
            raise ModelNotFound(f"The model `{shown}` does not exist, or you do not have access to it.", param=param)

    def may_use(self, caller: str, model: str) -> bool:
        """Whether the model is in the list for all callers, and in the caller's own if there is one."""
        own = self._own(caller)
        return _is_among(model, self._models) and (own is None or _has(own, model))

    def _own(self, caller: str) -> Sequence[str] | None:
        chosen = self._own_of(caller)
        return self._per_caller.get(caller) if chosen is None else chosen


def named_models(request: Json) -> Iterator[tuple[str, str]]:
    """The field and the name of each model of a request; an empty name for what is none (LiteLLM takes objects)."""
    yield "model", request["model"]
    for field in ALTERNATIVES:
        given = request.get(field) or []
        for each in given if isinstance(given, list) else [given]:
            yield field, each if isinstance(each, str) else ""


def _split(text: str) -> list[str]:
    return [part for each in text.split(",") if (part := each.strip())]


def _is_among(model: str, allowed: Sequence[str]) -> bool:
    return not allowed or _has(allowed, model)


def _has(allowed: Sequence[str], model: str) -> bool:
    """Whether a list has the model or a prefix of it that ends with `*`."""
    return any(model.startswith(each[:-1]) if each.endswith("*") else model == each for each in allowed)
