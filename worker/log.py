"""Logging of the worker: ours, and not the one that Celery would set up."""

from __future__ import annotations

import logging
from typing import Literal

from billiard.util import get_logger as billiard_logger
from celery.signals import setup_logging

from headway.contract.logs import log_to_stderr


def configure(level: str, style: Literal["text", "json"]) -> None:
    """Send all logging of this process to stderr, replacing what was set up before and keeping Celery
    from setting up its own."""
    log_to_stderr(level, style)
    # Celery says at INFO what the runtime says better.
    for name in ("celery", "kombu", "amqp", "multiprocessing"):
        logging.getLogger(name).setLevel(max(logging.getLogger().level, logging.WARNING))
    setup_logging.connect(_instead_of_celery, weak=False)


def _instead_of_celery(**_: object) -> None:
    """Listen to this signal, so that Celery does not set up logging. The pool's logger has just been made
    anew, and would keep its lines to itself."""
    billiard_logger().propagate = True
