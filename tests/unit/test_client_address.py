"""Whose address counts as the caller's."""

from __future__ import annotations

import pytest

from service.api.client_address import address


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("127.0.0.1", None, "127.0.0.1"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("127.0.0.1", "203.0.113.7", "203.0.113.7"),
        ("::1", "2001:db8::7", "2001:db8::7"),
        ("127.0.0.1", "what the client claims, 203.0.113.7", "203.0.113.7"),
        ("127.0.0.1", "203.0.113.7,", "127.0.0.1"),
        ("192.0.2.1", "203.0.113.7", "192.0.2.1"),
        ("2001:db8::1", "203.0.113.7", "2001:db8::1"),
        ("", "203.0.113.7", ""),
    ],
)
def test_only_a_proxy_on_this_machine_is_believed_and_only_what_it_saw_itself(
    peer: str, forwarded: str | None, expected: str
) -> None:
    environ = {"REMOTE_ADDR": peer}
    if forwarded is not None:
        environ["HTTP_X_FORWARDED_FOR"] = forwarded
    assert address(environ) == expected
