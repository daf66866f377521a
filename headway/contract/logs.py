"""How a log line looks, in every process: text for people, or one JSON object a line."""

from __future__ import annotations

import json
import logging
import time
from typing import Literal


class TextFormatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
        self.converter = time.gmtime


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "at": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": record.process,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False, default=str)


def log_to_stderr(level: str, style: Literal["text", "json"]) -> None:
    """Send all logging of this process to stderr, replacing what was set up before."""
    handler = logging.StreamHandler()
    handler.setFormatter(formatter(style))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)


def formatter(style: Literal["text", "json"]) -> logging.Formatter:
    return JsonFormatter() if style == "json" else TextFormatter()
