"""The upstreams as a process has read them last: at its start, and again on SIGHUP."""

import asyncio
import logging
import signal
from collections.abc import Callable
from pathlib import Path

from tailrace.errors import Misconfigured
from tailrace.settings import Settings
from tailrace.upstreams.config import Target, UpstreamConfig, Upstreams
from tailrace.upstreams.toml_errors import SETTING

logger = logging.getLogger(__name__)


class CurrentUpstreams:
    """The upstreams now. `needs_keys`: the process calls them, so it needs every key that the file names.

    Raises:
        Misconfigured: the file cannot be read, or a value in it is wrong: with its line.
    """

    def __init__(self, settings: Settings, *, needs_keys: bool = False) -> None:
        self._settings = settings
        self._needs_keys = needs_keys
        self.on_change: Callable[[], None] = lambda: None
        self._changed_at = _changed_at(settings.config)
        self.now = self._load()
        self._turn = asyncio.Lock()
        self._reloads: set[asyncio.Task[bool]] = set()
        self._is_requested = False

    def targets(self, model: str) -> list[Target]:
        """As `Upstreams.targets`, by the file that was read last."""
        return self.now.targets(model)

    @property
    def all(self) -> tuple[UpstreamConfig, ...]:
        return self.now.all

    @property
    def is_default(self) -> bool:
        """Whether there is no file, and one upstream."""
        return self.now.is_default

    def reload_on_hangup(self) -> None:
        """Read the file again whenever the process receives SIGHUP; and now, if it has changed since the start, in
        which the signal was ignored. Without a file the signal keeps its default action, which ends the process."""
        if self._settings.config:
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._on_hangup)
            if _changed_at(self._settings.config) != self._changed_at:
                self._on_hangup()

    def _on_hangup(self) -> None:
        if self._is_requested:  # one that has not begun yet reads what is there then
            return
        self._is_requested = True
        reload = asyncio.create_task(self.reload(), name="reload")
        self._reloads.add(reload)
        reload.add_done_callback(self._reloads.discard)

    async def reload(self) -> bool:
        """Read the file again, in a thread: a large one takes seconds, in which leases have to be renewed. One that is
        wrong changes nothing: the log has the line, and False is returned."""
        async with self._turn:
            self._is_requested = False
            try:
                self.now = await asyncio.to_thread(self._load)
            except Misconfigured as error:
                logger.error("%s; the upstreams that were read before stay in use", error.message)
                return False
            self._announce()
        return True

    def _announce(self) -> None:
        names = ", ".join(each.name for each in self.now.all)
        logger.info("%s: read %s again: %s", SETTING, self._settings.config, names)
        self.on_change()

    def _load(self) -> Upstreams:
        loaded = Upstreams.load(self._settings)
        if self._needs_keys:
            loaded.check_keys()
        return loaded


def _changed_at(path: str) -> int:
    """When the file was changed last, in ns; 0 where there is none."""
    try:
        return Path(path).stat().st_mtime_ns
    except OSError:
        return 0
