"""Log lines as JSON objects, for `TAILRACE_LOG_FORMAT=json`.

    {"ts":"2026-11-22T14:20:05.123Z","level":"INFO","event":"ended","message":"gen_… completed …","process":"worker",
     "pid":4242,"logger":"tailrace_worker.attempt","generation":"gen_…","attempt":1,"epoch":…,"owner":"anna", …}

`event` is a step of a generation's life (`tailrace.lifecycle.steps`), or `log` for every other line.
"""

import json
import logging
import os
import time
from typing import Any

from pythonjsonlogger.msgspec import MsgspecFormatter

from tailrace.process import log_fields

OTHER = "log"
LINE_ENDS = {0x85: "\\u0085", 0x2028: "\\u2028", 0x2029: "\\u2029"}
"""Which some readers of lines obey, and JSON leaves as they are."""


class JsonLogFormatter(MsgspecFormatter):
    """`process`: the name of the process."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        log_data |= {
            "ts": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "event": OTHER,
            "message": record.message,
            "process": self._process,
            "pid": os.getpid(),
            "logger": record.name,
            **log_fields.bound(),
        }
        super().add_fields(log_data, record, message_dict)

    def jsonify_log_record(self, log_data: dict[str, Any]) -> str:
        try:
            line = super().jsonify_log_record(log_data)
        except UnicodeEncodeError:  # a lone surrogate, which an upstream may send
            return json.dumps(log_data, default=str)
        return line if line.isascii() else line.translate(LINE_ENDS)
