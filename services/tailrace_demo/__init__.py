"""An OpenAI-compatible server by itself: the demo model of `tailrace dev`, and the upstream of the tests.

Every answer is a script, a list of steps (`script`): the demo models write theirs from the question
(`answers`), the model `scripted` plays the one in the request's own field `script`. Nothing here knows Tailrace.
"""

from tailrace_demo.app import create_app
from tailrace_demo.server import running, serve

__all__ = ["create_app", "running", "serve"]
