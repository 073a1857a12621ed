"""A scripted, OpenAI-compatible upstream for demonstrations and tests.

`tailrace dev` starts it where no upstream is configured, `tailrace demo-model` runs it alone, and the tests use it as
their upstream. Production deployments do not start it: no module of the frontend or the worker imports this package.

Every answer is a script, a list of steps (module `script`). The demo models generate their scripts from the question
(module `answers`). The model `scripted` plays the script in the request's field `script`. This package imports nothing
else of Tailrace.
"""

from tailrace_demo.server import running, serve

__all__ = ["running", "serve"]
