"""A test that runs for many values in one go.

An item of pytest costs 15 ms of its own (21,994 items, measured), more than most of the tests that have hundreds of
values take for one. So a test for the many logs is one item, and a failure names the value.
"""

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

Test = Callable[..., None]


def for_each(
    name: str, values: Iterable[Any], make: Callable[[Any], object] = lambda value: value
) -> Callable[[Test], Test]:
    """Call the test with what `make` makes of every value, as its argument `name`.

    The first failure ends the test, with a note of the value.
    """
    every = list(values)
    assert every

    def decorate(test: Test) -> Test:
        @functools.wraps(test)
        def call_with_each(**others: object) -> None:
            for value in every:
                try:
                    test(**others, **{name: make(value)})
                except BaseException as error:
                    error.add_note(f"{name}: {value}")
                    raise

        signature = inspect.signature(test)
        others = [parameter for parameter in signature.parameters.values() if parameter.name != name]
        call_with_each.__dict__["__signature__"] = signature.replace(parameters=others)
        return call_with_each

    return decorate
