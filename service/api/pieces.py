"""Pieces: how an upload reaches the files, a piece at a time, so that none of it is held for long."""

from __future__ import annotations

from headway.contract.files import Files


class Pieces:
    """Collects what is written into pieces of the size that the files take."""

    def __init__(self, files: Files, key: str, offset: int = 0, mark: str = "0") -> None:
        self._files = files
        self._key = key
        self._mark = mark
        self._unsent = bytearray()
        self.offset = offset
        """Where the next piece begins: all before it is kept."""
        self.names: list[str] = []

    def write(self, data: bytes) -> None:
        if not self._unsent and len(data) == self._files.piece_bytes:
            self._add(data)
            return
        self._unsent += data
        while len(self._unsent) >= self._files.piece_bytes:
            piece = bytes(memoryview(self._unsent)[: self._files.piece_bytes])
            self._add(piece)
            del self._unsent[: len(piece)]

    def flush(self) -> None:
        """Write what is left, if anything is; of an empty file, the nothing that it is."""
        if self._unsent or not self.names:
            self._add(bytes(self._unsent))
            self._unsent.clear()

    def _add(self, piece: bytes) -> None:
        name = self._files.add(self._key, self.offset, piece, self._mark)
        self.names.append(name)
        self.offset += len(piece)
