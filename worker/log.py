"""Log lines of the worker: text for people, or one JSON object a line."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Literal

from billiard.util import get_logger as billiard_logger
from celery.signals import setup_logging


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


def configure(level: str, style: Literal["text", "json"]) -> None:
    """Send all logging of this process to stderr, replacing what was set up before and keeping Celery
    from setting up its own."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Celery says at INFO what the runtime says better.
    for name in ("celery", "kombu", "amqp", "multiprocessing"):
        logging.getLogger(name).setLevel(max(root.level, logging.WARNING))
    setup_logging.connect(_instead_of_celery, weak=False)


def _instead_of_celery(**_: object) -> None:
    """Celery sets logging up only if nobody listens to this signal. The pool's logger has just been
    made anew, and keeps to itself."""
    billiard_logger().propagate = True
