"""The models that callers may name: a list for all of them, and shorter ones for some."""

from collections.abc import Sequence

from tailrace.errors import Misconfigured, ModelNotFound


class AllowedModels:
    """The lists as `TAILRACE_MODELS` and `TAILRACE_MODELS_PER_CALLER` give them; an empty list allows every model."""

    def __init__(self, models: str, per_caller: str) -> None:
        """
        Raises:
            Misconfigured: an entry of `per_caller` is not `caller=model model`, or a caller has two.
        """
        self._models = _split(models)
        self._per_caller: dict[str, list[str]] = {}
        for position, entry in enumerate(_split(per_caller), 1):
            caller, separator, names = entry.partition("=")
            if not separator or not names.split() or caller in self._per_caller:
                raise Misconfigured(
                    f"TAILRACE_MODELS_PER_CALLER: entry {position} is not `caller=model model`, or its caller has one"
                )
            self._per_caller[caller] = names.split()

    def names_for(self, caller: str) -> list[str]:
        """The models that the lists name whole and the caller may use. Others may be allowed by a prefix, or because
        the lists are empty."""
        listed = [*self._models, *self._per_caller.get(caller, ())]
        return [each for each in dict.fromkeys(listed) if not each.endswith("*") and self.may_use(caller, each)]

    def check(self, caller: str, model: str) -> None:
        """
        Raises:
            ModelNotFound: the caller may not use this model.
        """
        if not self.may_use(caller, model):
            raise ModelNotFound(f"The model `{model}` does not exist, or you do not have access to it.", param="model")

    def may_use(self, caller: str, model: str) -> bool:
        """Whether the model is in the list for all callers, and in the caller's own if there is one."""
        return _is_among(model, self._models) and _is_among(model, self._per_caller.get(caller, ()))


def _split(text: str) -> list[str]:
    return [part for each in text.split(",") if (part := each.strip())]


def _is_among(model: str, allowed: Sequence[str]) -> bool:
    """Whether a list is empty, or has the model or a prefix of it that ends with `*`."""
    if not allowed:
        return True
    return any(model.startswith(each[:-1]) if each.endswith("*") else model == each for each in allowed)
