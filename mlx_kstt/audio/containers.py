"""What a file's own bytes say about it: its kind, and whether all of it is there.

In: a file's first bytes, or the open file. Out: names and lengths. Knows nothing of decoding. Whether an au, w64, rf64
or mp4 file has been cut off is not found out here.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import BinaryIO

HEAD_BYTES = 12
"""How many first bytes `container` needs."""

_KINDS = (
    (0, b"RIFF", "WAV"),
    (0, b"RF64", "WAV"),
    (0, b"fLaC", "FLAC"),
    (0, b"OggS", "Ogg"),
    (0, b"ID3", "MP3"),
    (0, b"FORM", "AIFF"),
    (0, b"caff", "CAF"),
    (0, b".snd", "AU"),
    (4, b"ftyp", "MP4"),
    (4, b"moov", "QuickTime"),
    (4, b"mdat", "QuickTime"),
    (4, b"wide", "QuickTime"),
    (0, b"\x1aE\xdf\xa3", "WebM or Matroska"),
    (0, b"0&\xb2u\x8ef\xcf\x11", "WMA"),
    (0, b"#!AMR", "AMR"),
    (0, b"wvpk", "WavPack"),
    (0, b"MAC ", "Monkey's Audio"),
    (0, b"FLV\x01", "Flash video"),
)
_ADTS = (b"\xff\xf1", b"\xff\xf9", b"\xff\xf0", b"\xff\xf8")

_CHUNK_HEADS = {b"RIFF": struct.Struct("<4sI"), b"FORM": struct.Struct(">4sI")}
_SAMPLES = {b"data": 0, b"SSND": 8}  # the chunks with the samples, and the bytes in them before the samples
# A writer that cannot go back to fill in the length (a pipe) writes the largest one it can think of.
_UNKNOWN_LENGTH = 0x7FFF_0000
_LARGEST_OGG_PAGE = 65_307
_MP3_HEADER = 4_096
_MOST_CHUNKS = 1_000  # no honest file has more of them before its samples


def container(head: bytes) -> str | None:
    """The kind of file that begins with these bytes, None where they may be anything."""
    for offset, magic, kind in _KINDS:
        if head[offset : offset + len(magic)] == magic:
            return kind
    return None


def is_adts(head: bytes) -> bool:
    """Whether this may be a bare AAC stream; two bytes are all that says so."""
    return head.startswith(_ADTS)


def announced_share(file: BinaryIO) -> float:
    """Samples that a wav or aiff header announces by those that are there: 1.0 when whole or of another kind."""
    file.seek(0)
    head = _CHUNK_HEADS.get(file.read(4))
    if head is None:
        return 1.0
    end = file.seek(0, io.SEEK_END)
    for kind, start, length in _chunks(file, head):
        if kind in _SAMPLES:
            there, announced = end - start - _SAMPLES[kind], length - _SAMPLES[kind]
            return announced / there if 0 < there < announced < _UNKNOWN_LENGTH else 1.0
    return 1.0


def ogg_is_cut(file: BinaryIO) -> bool:
    """Whether an Ogg file stops before the page that says it is the last one; False for another kind (RFC 3533)."""
    file.seek(0)
    if file.read(4) != b"OggS":
        return False
    end = file.seek(0, io.SEEK_END)
    file.seek(max(0, end - _LARGEST_OGG_PAGE))
    tail = file.read(_LARGEST_OGG_PAGE)
    page = tail[tail.rfind(b"OggS") :]
    segments = page[27 : 27 + page[26]] if len(page) > 26 else b""
    whole = len(page) > 26 and len(page) >= 27 + page[26] + sum(segments)
    return not (whole and page[5] & 4)


def mp3_counts_frames(file: BinaryIO) -> bool:
    """Whether the first frame of an mp3 file tells how many follow (Xing, LAME or VBRI header)."""
    file.seek(0)
    head = file.read(10)
    length = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=False))
    file.seek(length if head.startswith(b"ID3") else 0)
    start = file.read(_MP3_HEADER)
    return any(mark in start for mark in (b"Xing", b"Info", b"VBRI"))


def _chunks(file: BinaryIO, head: struct.Struct) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and length of the chunks of a RIFF or IFF file."""
    start = HEAD_BYTES
    for _ in range(_MOST_CHUNKS):
        file.seek(start)
        data = file.read(head.size)
        if len(data) < head.size:
            return
        kind, length = head.unpack(data)
        start += head.size
        yield kind, start, length
        start += length + length % 2
