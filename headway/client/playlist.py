"""What an HLS playlist names (RFC 8216): text in, names out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

_URI = re.compile(r'URI="([^"]+)"')


def playlist_uris(playlist: str) -> Iterator[str]:
    """The files beside it: media, initialisation sections and other playlists, each in the order in which
    it first comes. What lies elsewhere is left out."""
    seen = set()
    for line in playlist.splitlines():
        uris = _URI.findall(line) if line.startswith("#") else [line.strip()]
        for uri in uris:
            parts = urlsplit(uri)
            name = unquote(parts.path)
            if (
                name
                and not parts.scheme
                and not parts.netloc
                and not name.startswith("/")
                and name not in seen
            ):
                seen.add(name)
                yield name
