"""The API keys that are valid now, from the settings or from a file that is read again when it changes.

    name:key                                    a caller and a key
    name:key;expires=2027-01-31T00:00:00Z       the same, refused from that time on
    name:key;scopes=read+create                 a key that may do only that (`tailrace.scopes`)

Entries are separated by commas, in a file also by white space and line ends. Entries with the same name are several
keys of one caller: a key is rotated by adding the new one, and removing the old one once no client uses it.

A file is read whole or not at all. A file that has changed within the last second may still be written, and is read at
the next check at which it has not changed again. A file with one malformed entry is not used. Either way the keys read
before stay in use, and the log has the reason. (A writer that pauses for longer than a second in the middle of an
entry list cannot be recognized: replace the file by renaming another one.)
"""

import hashlib
import logging
import os
import re
import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from math import inf
from pathlib import Path
from typing import NamedTuple

from tailrace.errors import Misconfigured
from tailrace.scopes import CALLER_SCOPES, Scope, Scopes, scopes_of

NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
MIN_KEY_LENGTH = 8
RELOAD_S = 1.0
SETTLED_S = 1.0
"""A file that was changed longer ago than this is not being written."""

logger = logging.getLogger(__name__)


class ApiKey(NamedTuple):
    """What a request shows: its caller's name, its SHA-256 digest, the time from which it is refused (epoch seconds),
    and what it may do. `id`: of a key that was created at run time. `grant`: the ticket through which the key reads."""

    owner: str
    digest: bytes
    expires: float = inf
    scopes: Scopes = CALLER_SCOPES
    id: str = ""
    grant: str = ""


Keys = Mapping[bytes, ApiKey]
"""Keys by their digest."""


class FileVersion(NamedTuple):
    """Values that change whenever a file is written or replaced; times in ns. `ctime` cannot be set by a program."""

    inode: int
    size: int
    mtime: int
    ctime: int

    @classmethod
    def of(cls, stat: os.stat_result) -> "FileVersion":
        return cls(stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)

    @property
    def is_settled(self) -> bool:
        return time.time() - self.ctime / 1e9 > SETTLED_S


class ApiKeys:
    """The keys as `TAILRACE_API_KEYS` gives them.

    Raises:
        Misconfigured: the value or the file cannot be parsed; by position, never by value.
    """

    def __init__(self, given: str) -> None:
        self._file = Path(given[1:]) if given.startswith("@") else None
        self._checked_at = time.monotonic()
        self._loaded_version: FileVersion | None = None
        self._checked_version: FileVersion | None = None  # of the last check; None: unreadable
        self._reported: tuple[FileVersion | None] | None = None  # the version whose problem was logged last
        self._keys: Keys = {} if self._file else parse(given.split(","))
        if self._file:
            try:
                self._loaded_version = self._checked_version = FileVersion.of(self._file.stat())
                self._keys = _read(self._file)
            except OSError as error:
                raise Misconfigured(_unreadable(self._file, error.strerror)) from None

    def current(self) -> Keys:
        """The keys of the newest readable version of the file; those that have expired are among them."""
        if self._file and time.monotonic() - self._checked_at > RELOAD_S:
            self._checked_at = time.monotonic()
            self._check(self._file)
        return self._keys

    def is_valid(self, key: ApiKey) -> bool:
        """Whether the key is still one of its caller's and has not expired."""
        known = self.current().get(key.digest)
        return known is not None and known.owner == key.owner and time.time() < known.expires

    def of(self, owner: str) -> list[ApiKey]:
        """The valid keys of a caller."""
        now = time.time()
        return [key for key in self.current().values() if key.owner == owner and now < key.expires]

    def _check(self, file: Path) -> None:
        """Read the file again if it has changed. A problem is logged once for each version of the file."""
        version: FileVersion | None = None
        try:
            version = FileVersion.of(file.stat())
            if version == self._loaded_version:
                self._reported = None
            elif version.is_settled or version == self._checked_version:
                self._load(file, version)
            else:
                logger.info("TAILRACE_API_KEYS: %s has just changed; it is read once it stays unchanged", file)
        except (OSError, Misconfigured) as error:
            problem = error.message if isinstance(error, Misconfigured) else _unreadable(file, error.strerror)
            if self._reported != (version,):
                logger.warning("%s; the keys read before stay in use, so a key revoked since is still valid", problem)
            self._reported = (version,)
        self._checked_version = version

    def _load(self, file: Path, version: FileVersion) -> None:
        """
        Raises:
            Misconfigured, OSError: nothing has changed.
        """
        keys = _read(file)
        if FileVersion.of(file.stat()) != version:
            return  # it was written meanwhile: the next check reads it
        self._keys, self._loaded_version, self._reported = keys, version, None
        logger.info("TAILRACE_API_KEYS: read %s: %d keys", file, len(keys))


def parse(entries: Iterable[str]) -> Keys:
    """The keys of these entries; empty ones are ignored.

    Raises:
        Misconfigured: an entry is malformed or repeats a key; by position, never by value.
    """
    keys: dict[bytes, ApiKey] = {}
    for position, entry in enumerate(filter(None, map(str.strip, entries)), 1):
        key = _parse_entry(entry, position)
        if key.digest in keys:
            raise Misconfigured(f"TAILRACE_API_KEYS: entry {position} repeats the key of an earlier entry")
        keys[key.digest] = key
    return keys


def _parse_entry(entry: str, position: int) -> ApiKey:
    name, separator, rest = entry.partition(":")
    key, *given = rest.split(";")
    options = dict(option.partition("=")[::2] for option in given)
    is_known = options.keys() <= {"expires", "scopes"} and len(options) == len(given)
    if not separator or not NAME.fullmatch(name) or len(key) < MIN_KEY_LENGTH or not is_known:
        raise Misconfigured(
            f"TAILRACE_API_KEYS: entry {position} is not `name:key`, with `;expires=…` and `;scopes=…` or without "
            f"(name of letters, digits, `_.-`; key of at least {MIN_KEY_LENGTH} characters, without `;`)"
        )
    expires = _epoch_seconds(options["expires"], position) if "expires" in options else inf
    scopes = _scopes(options["scopes"], position) if "scopes" in options else CALLER_SCOPES
    return ApiKey(name, digest_of(key), expires, scopes)


def _scopes(text: str, position: int) -> Scopes:
    try:
        return scopes_of(text.split("+"))
    except ValueError:
        known = ", ".join(Scope)
        raise Misconfigured(
            f"TAILRACE_API_KEYS: entry {position} has an unknown scope: `read+create` are two; all are {known}"
        ) from None


def _epoch_seconds(text: str, position: int) -> float:
    try:
        time_ = datetime.fromisoformat(text)
    except ValueError:
        time_ = None
    if time_ is None or time_.tzinfo is None:
        raise Misconfigured(
            f"TAILRACE_API_KEYS: entry {position} expires at no time: `2027-01-31T00:00:00Z` is one, with its zone"
        )
    return time_.timestamp()


def digest_of(key: str) -> bytes:
    """SHA-256 of a key. Clients can send lone surrogates, which the strict encoder rejects."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def _read(file: Path) -> Keys:
    try:
        return parse(re.split(r"[\s,]+", file.read_text()))
    except UnicodeDecodeError:  # its text quotes the bytes that it cannot decode
        raise Misconfigured(_unreadable(file, "it is not UTF-8")) from None


def _unreadable(file: Path, reason: str | None) -> str:
    return f"TAILRACE_API_KEYS: cannot read {file}: {reason}"
