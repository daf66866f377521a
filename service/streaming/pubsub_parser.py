"""redis-py's parser, which can also return all replies that have arrived, at once.

For a connection that only listens: redis-py asks the socket three times whether it can be read before
it reads, and under gevent each question costs more than all that the hub does for an event.
"""

from __future__ import annotations

from typing import Any

import redis
from redis._parsers.hiredis import NOT_ENOUGH_DATA, _HiredisParser


class PubSubParser(_HiredisParser):
    """Give it to a connection as its `parser_class`. The connection's `socket_timeout` is how long
    `batch` waits, its `socket_read_size` how much `batch` takes at most."""

    def batch(self) -> list[Any]:
        """Returns all replies that are there, as soon as there is one; none when the timeout is over.

        Raises ConnectionError when the server has closed, ResponseError if that is a reply, OSError.
        """
        sock, reader = self._sock, self._reader
        replies: list[Any] = []
        while not replies:
            if sock is None or reader is None:
                raise redis.ConnectionError("the connection was closed")
            try:
                chunk = sock.recv(self.socket_read_size)
            except TimeoutError:
                return replies
            if not chunk:
                raise redis.ConnectionError("the server closed the connection")
            reader.feed(chunk)
            while (reply := reader.gets()) is not NOT_ENOUGH_DATA:
                if isinstance(reply, Exception):
                    raise reply
                replies.append(reply)
        return replies
