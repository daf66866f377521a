"""What a playlist names."""

from __future__ import annotations

from headway.client.playlist import playlist_uris


def test_a_playlist_names_what_is_beside_it_and_nothing_from_elsewhere() -> None:
    master = (
        '#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,URI="a/index.m3u8",NAME="x"\n\n#EXT-X-STREAM-INF:B=1\n720.m3u8\n'
    )
    media = (
        '#EXT-X-MAP:URI="init.mp4"\n#EXTINF:4,\nseg%201.m4s?x=1\n#EXTINF:4,\nseg%201.m4s\n'
        "https://elsewhere/x.ts\n/etc/passwd\n//elsewhere/y.ts\n../up.ts\n"
    )
    assert list(playlist_uris(master)) == ["a/index.m3u8", "720.m3u8"]
    # Where `..` leads is decided by who writes the files.
    assert list(playlist_uris(media)) == ["init.mp4", "seg 1.m4s", "../up.ts"]
