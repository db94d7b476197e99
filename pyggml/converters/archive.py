"""Zip archives as checkpoints use them: the entries of a file, and the bytes of one, never more than they state.

Entries may be stored plain or deflated; encryption, other methods, several disks and names that leave the archive are
refused, and so are entries that lie over each other or come twice: no honest writer makes them.
Source: the zip application note (PKWARE), sections 4.3 and 4.5.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from pyggml.errors import GGUFError, UnsupportedError
from pyggml.files.foreign import name_of
from pyggml.files.regular_file import RegularFile
from pyggml.shown import clip

MAX_DIRECTORY = 64 << 20
MAX_ENTRIES = 1 << 17

_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_UTF8 = 0x800
_STORED, _DEFLATED = 0, 8
_FULL32 = 0xFFFFFFFF


@dataclass(slots=True)
class Entry:
    """A file inside: what the archive's directory says of it. at: of its local header."""

    name: str
    raw_name: bytes
    method: int
    crc: int
    packed: int  # bytes in the archive
    size: int  # bytes unpacked
    at: int


class Archive:
    """The entries of a zip archive by name. Raises GGUFError where its directory contradicts itself or the file."""

    def __init__(self, path: str) -> None:
        self.file = RegularFile(path, "a zip archive")
        self.what = name_of(path)
        count, size, begin = self._end()
        if count > MAX_ENTRIES or size > MAX_DIRECTORY or size < count * _CENTRAL.size:
            raise GGUFError(f"{self.what}: the archive says it has {count} entries in a directory of {size} bytes")
        self.entries: dict[str, Entry] = {}
        raw, at = self.file.read(begin, size), 0
        for _ in range(count):
            entry, at = self._central(raw, at)
            if entry.name in self.entries:
                raise GGUFError(f"{self.what}: the entry {clip(entry.name)} comes twice")
            self.entries[entry.name] = entry
        self._check_apart(begin)

    def _damaged(self, why: str) -> GGUFError:
        return GGUFError(f"{self.what} is damaged or cut: {why}")

    def _end(self) -> tuple[int, int, int]:
        """(entries, bytes, offset) of the directory."""
        length = min(self.file.size, _END.size + 0xFFFF)
        first = self.file.size - length
        tail = self.file.read(first, length)
        at = tail.rfind(b"PK\5\6")
        if at < 0 or at + _END.size > length:
            raise self._damaged("a zip archive has a directory at its end, here is none")
        _, disk, start, here, count, size, begin, _ = _END.unpack_from(tail, at)
        end = first + at
        wide = self._end64(end) if 0xFFFF in (here, count) or _FULL32 in (size, begin) else None
        if wide is not None:
            disk, start, here, count, size, begin, end = wide
        if (disk, start, here) != (0, 0, count):
            raise UnsupportedError(f"{self.what} is one part of an archive in several; join them first")
        if begin + size > end:
            raise self._damaged(f"its directory of {size} bytes at byte {begin} does not end before byte {end}")
        return count, size, begin

    def _end64(self, end: int) -> tuple[int, ...] | None:
        """The same of an archive too large for 32 bits, and where this record lies; None where there is no such."""
        if end < _LOCATOR.size:
            return None
        sign, _, at, _ = _LOCATOR.unpack(self.file.read(end - _LOCATOR.size, _LOCATOR.size))
        if sign != b"PK\6\7":
            return None
        row = _END64.unpack(self.file.read(at, _END64.size)) if at + _END64.size <= end else (b"",)
        if row[0] != b"PK\6\6":
            raise self._damaged(f"the end of its directory is not at byte {at}")
        return (*row[4:], at)

    def _central(self, raw: bytes, at: int) -> tuple[Entry, int]:
        if at + _CENTRAL.size > len(raw):
            raise self._damaged("its directory ends within an entry")
        row = _CENTRAL.unpack_from(raw, at)
        sign, flags, method, crc, packed, size, n_name, n_extra, n_comment, offset = (
            row[0], row[3], row[4], row[7], row[8], row[9], row[10], row[11], row[12], row[16],
        )  # fmt: skip
        body = at + _CENTRAL.size
        end = body + n_name + n_extra + n_comment
        if sign != b"PK\1\2" or end > len(raw):
            raise self._damaged(f"its directory makes no sense at byte {at}")
        raw_name = raw[body : body + n_name]
        name = raw_name.decode("utf-8" if flags & _UTF8 else "cp437", "replace")
        if _FULL32 in (packed, size, offset):
            extra = raw[body + n_name : body + n_name + n_extra]
            size, packed, offset = self._wide(extra, size, packed, offset)
        if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/") or "\0" in name:
            raise GGUFError(f"{self.what}: the entry {clip(name)} has a name that leaves the archive")
        if flags & 0x2041:
            raise UnsupportedError(f"{self.what}: the entry {clip(name)} is encrypted; unpack the archive first")
        if method not in (_STORED, _DEFLATED):
            raise UnsupportedError(f"{self.what}: the entry {clip(name)} is packed by method {method}, known: 0 and 8")
        if method == _STORED and packed != size:
            raise self._damaged(f"the entry {clip(name)} is stored as it is, but says {packed} bytes are {size}")
        return Entry(name, raw_name, method, crc, packed, size, offset), end

    def _wide(self, extra: bytes, *numbers: int) -> list[int]:
        """Numbers of an entry that do not fit 32 bits, from its extra field 1."""
        at = 0
        while at + 4 <= len(extra):
            kind, length = struct.unpack_from("<HH", extra, at)
            if kind == 1:
                words = iter(struct.iter_unpack("<Q", extra[at + 4 : at + 4 + length // 8 * 8]))
                return [next(words, (n,))[0] if n == _FULL32 else n for n in numbers]
            at += 4 + length
        return list(numbers)

    def _check_apart(self, directory: int) -> None:
        end, last = 0, ""
        for entry in sorted(self.entries.values(), key=lambda e: e.at):
            if entry.at < end:
                raise GGUFError(f"{self.what}: the entries {clip(last)} and {clip(entry.name)} lie over each other")
            end, last = entry.at + _LOCAL.size + len(entry.raw_name) + entry.packed, entry.name
            if end > directory:
                raise self._damaged(f"the entry {clip(entry.name)} does not end before the directory, {directory}")

    def place(self, entry: Entry) -> int:
        """The offset in the file of an entry's bytes. Raises GGUFError where its own header disagrees."""
        raw = self.file.read(entry.at, min(_LOCAL.size + len(entry.raw_name), self.file.size - entry.at))
        if len(raw) < _LOCAL.size:
            raise self._damaged(f"the entry {clip(entry.name)} begins at byte {entry.at}")
        row = _LOCAL.unpack_from(raw)
        sign, flags, method, n_name, n_extra = row[0], row[2], row[3], row[9], row[10]
        begin: int = entry.at + _LOCAL.size + n_name + n_extra
        same = n_name == len(entry.raw_name) and raw[_LOCAL.size :] == entry.raw_name
        if sign != b"PK\3\4" or method != entry.method or flags & 1 or not same:
            raise self._damaged(f"the entry {clip(entry.name)} is another one in its own header at byte {entry.at}")
        if begin + entry.packed > self.file.size:
            raise self._damaged(f"the entry {clip(entry.name)} ends at byte {begin + entry.packed}")
        return begin

    def head(self, entry: Entry, n: int) -> bytes:
        """The first n bytes of an entry, fewer where it is shorter."""
        begin = self.place(entry)
        if entry.method == _STORED:
            return self.file.read(begin, min(n, entry.size))
        return zlib.decompressobj(-15).decompress(self.file.read(begin, min(entry.packed, n + 1024)), n)

    def read(self, entry: Entry, limit: int, checked: bool = True) -> bytes:
        """All bytes of an entry, at most limit. checked: by its CRC; PyTorch may leave that out."""
        if entry.size > limit:
            raise GGUFError(f"{self.what}: the entry {clip(entry.name)} has {entry.size} bytes, expected <= {limit}")
        if entry.packed > entry.size + (entry.size >> 8) + 1024:
            raise self._damaged(f"the entry {clip(entry.name)} packs {entry.size} bytes into {entry.packed}")
        raw = self.file.read(self.place(entry), entry.packed)
        if entry.method == _DEFLATED:
            unpacker = zlib.decompressobj(-15)
            raw = unpacker.decompress(raw, entry.size + 1)
            if len(raw) != entry.size or not unpacker.eof:
                raise self._damaged(f"the entry {clip(entry.name)} does not unpack to the {entry.size} bytes it states")
        if checked and zlib.crc32(raw) != entry.crc:
            raise self._damaged(f"the entry {clip(entry.name)} has another checksum than it states")
        return raw
