"""Holds: named points at which scripts wait until a test releases them.

A test that needs an answer which has not ended holds its script, rather than choosing a rate that is slow enough. A
released hold stays released.
"""

import asyncio
from collections import defaultdict

HOLDS: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
"""By name. A process plays one upstream, so that they are its own."""
