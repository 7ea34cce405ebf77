"""Bytes of plain and compressed files, as a stream.

Decisions:
- The first bytes decide the format, not the name. So what a text is depends on its bytes alone.
- A text is refused by its first bytes if they show another format, so that the message names it.
  The encoder refuses all other bytes that are no text.
- The formats of a stream allow several streams in one file. Python's own file readers ignore what
  follows the first if it is damaged, so `_decompress` follows the streams itself.
- Nothing is extracted to a path, so an archive cannot choose where it writes.
- Any complaint of a codec becomes one UserError that names the file.
- zstandard is an extra.
"""

import bz2
import hashlib
import lzma
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from w2v_inf.errors import UserError
from w2v_inf.files import sha256
from w2v_inf.system_errors import raise_if_refused

_CHUNK_BYTES = 1 << 20
_COMPRESSED_BYTES = 1 << 13
"""Read at a time from a compressed file. A few bytes may stand for 30,000 times as many."""
_HEAD_BYTES = 512
_BZIP2_BLOCKS = (b"\x31\x41\x59\x26\x53\x59", b"\x17\x72\x45\x38\x50\x90")

_UTF16 = "UTF-16; convert it: iconv -f UTF-16 -t UTF-8 FILE (UTF-16LE or UTF-16BE without a mark)"
_NO_TEXT = [
    (257, b"ustar", "a tar archive; unpack it: tar -xOf FILE > TEXT"),
    (0, b"PK\3\4", "a zip archive (or an office document); unpack it: unzip -p FILE > TEXT"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it first"),
    (0, b"Rar!\x1a\x07", "a rar archive; unpack it first"),
    (0, b"\x04\x22\x4d\x18", "compressed by lz4; decompress it first"),
    (0, b"\x1f\x9d", "compressed by compress (.Z); decompress it first"),
    (0, b"%PDF-", "a PDF; extract its text first"),
    (0, b"PAR1", "a parquet file; read it with corpus=wikipedia"),
    (0, b"ARROW1", "an arrow file; read it with corpus=wikipedia"),
    (0, b"\xff\xfe\0\0", "UTF-32; convert it: iconv -f UTF-32 -t UTF-8 FILE"),
    (0, b"\0\0\xfe\xff", "UTF-32; convert it: iconv -f UTF-32 -t UTF-8 FILE"),
    (0, b"\xff\xfe", _UTF16),
    (0, b"\xfe\xff", _UTF16),
]
"""Place, bytes there, and what they show."""


def read_text_file(path: Path, sha256: str) -> Iterator[bytes]:
    """Consecutive pieces of the file, decompressed if it is of gzip, bzip2, xz or zstd.

    sha256: of the file, from `hash_file`. Each byte is hashed as it is read.
    Raises: UserError if the file is missing, damaged or cut short, or for zstd without the package
      zstandard; at the end also if the file is no longer the one that was hashed.
    """
    digest = hashlib.sha256()
    with _as_user_errors(path), path.open("rb") as file:
        yield from _decompressed(path, file, digest.update)
    if digest.hexdigest() != sha256:
        raise changed(path)


def changed(path: Path) -> UserError:
    """The error for a file that is not the one that was hashed."""
    return UserError(f"{path} has changed while it was read: run again when it is complete")


def _decompressed(path: Path, file: BinaryIO, see: Callable[[bytes], None]) -> Iterator[bytes]:
    """The content of a file; `see` is called with each piece of the file itself."""
    head = file.read(_HEAD_BYTES)
    kind = compression(head)
    size = _COMPRESSED_BYTES if kind else _CHUNK_BYTES
    pieces = _seen(chain([head], iter(lambda: file.read(size), b"")), see)
    if kind == "zstd":
        pieces = _decompress_zstd(path, pieces)
    elif kind:
        pieces = _decompress(pieces, *_CODECS[kind])
    head = b""
    for piece in pieces:
        head += piece
        if len(head) >= _HEAD_BYTES:
            break
    _check_text(path, head)
    yield from chain([head], pieces)


def _check_text(path: Path, head: bytes) -> None:
    """Raises: UserError that says what the file is, if its first bytes are of a known format."""
    found = [what for place, magic, what in _NO_TEXT if head.startswith(magic, place)]
    if kind := compression(head):
        found.append(f"compressed twice, inside by {kind}; decompress it once")
    first, second = head[:_HEAD_BYTES:2].count(0), head[1:_HEAD_BYTES:2].count(0)
    if min(first, second) == 0 and 40 * max(first, second) > min(len(head), _HEAD_BYTES):
        found.append(_UTF16)  # blanks and ASCII letters have a zero byte, always on the same side
    if found:
        raise UserError(f"{path} must be UTF-8 text, is {found[0]}")


def _seen(pieces: Iterable[bytes], see: Callable[[bytes], None]) -> Iterator[bytes]:
    for piece in pieces:
        see(piece)
        yield piece


def compression(head: bytes) -> str:
    """gzip, bzip2, xz or zstd by the first bytes of a file; otherwise empty."""
    if head.startswith(b"\x1f\x8b"):
        return "gzip"
    if head.startswith(b"BZh") and head[4:10] in _BZIP2_BLOCKS:
        return "bzip2"
    if head.startswith(b"\xfd7zXZ\0"):
        return "xz"
    is_skippable = head[1:4] == b"\x2a\x4d\x18" and head[0] >> 4 == 5  # a frame of user data
    return "zstd" if is_skippable or head.startswith(b"\x28\xb5\x2f\xfd") else ""


_CODECS: dict[str, tuple[Callable[[], Any], int]] = {
    "gzip": (lambda: zlib.decompressobj(wbits=31), 1),
    "bzip2": (bz2.BZ2Decompressor, 0),
    "xz": (lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ), 4),
}
"""How a stream is read; after it, zeros are legal in multiples of so many bytes."""


def _decompress(
    pieces: Iterator[bytes], new_stream: Callable[[], Any], padding: int
) -> Iterator[bytes]:
    """The content of all streams of a file, each checked to its end.

    Raises: EOFError if the last stream lacks its end; errors of the codec for damage, and for
      anything but streams and padding.
    """
    stream, num_zeros = new_stream(), 0
    for piece in pieces:
        while piece:
            if stream.eof:
                rest = piece.lstrip(b"\0") if padding else piece
                num_zeros += len(piece) - len(rest)
                if not rest:
                    break
                if padding and num_zeros % padding:
                    raise zlib.error(f"{num_zeros} zeros between streams")
                piece, stream, num_zeros = rest, new_stream(), 0
            yield stream.decompress(piece)
            piece = stream.unused_data
    if not stream.eof:
        raise EOFError("compressed file ended before the end-of-stream marker was reached")
    if padding and num_zeros % padding:
        raise zlib.error(f"{num_zeros} zeros after the last stream")


def _decompress_zstd(path: Path, pieces: Iterator[bytes]) -> Iterator[bytes]:
    try:
        import zstandard
    except ImportError as error:
        raise UserError(
            f"{path}: reading .zst needs the package zstandard: pip install w2v_inf[zstd]"
        ) from error

    def new_frame() -> Any:
        # Also of `zstd --long`, which zstd itself reads on request only.
        return zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()

    try:
        yield from _decompress(pieces, new_frame, 0)
    except zstandard.ZstdError as error:
        raise zlib.error(str(error)) from error


def read_zip_member(path: Path, member: str, md5: str) -> Iterator[bytes]:
    """Consecutive pieces of one member of a zip; the other members are ignored.

    Raises: UserError if the file is no zip, is damaged or lacks the member; at the end also if the
      member has another md5.
    """
    digest = hashlib.md5(usedforsecurity=False)
    with _as_user_errors(path), zipfile.ZipFile(path) as archive:
        if member not in archive.namelist():
            found = ", ".join(archive.namelist()[:3]) or "none"
            raise UserError(
                f"{path} must contain a file {member!r}, has {found}: give the original zip"
            )
        with archive.open(member) as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
                yield chunk
    if digest.hexdigest() != md5:
        found = digest.hexdigest()
        raise UserError(
            f"{path}: {member} must have md5 {md5}, has {found}: delete it and download it again"
        )


def hash_file(path: Path) -> str:
    """sha256 of the file, hex; 0.1 to 0.3 s per 100 MB.

    Raises: UserError if the file is missing, or is a pipe or a device: its text is read later, so
      the file must give the same bytes twice.
    """
    with _as_user_errors(path):
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # opening a folder fails as it should
            kind = "pipe" if stat.S_ISFIFO(mode) else "socket" if stat.S_ISSOCK(mode) else "device"
            raise UserError(
                f"corpus.path must be a file that can be read twice, got the {kind} {path}: "
                "save its text to a file first"
            )
        return sha256(path)


@contextmanager
def _as_user_errors(path: Path) -> Iterator[None]:
    """Turn errors of files and codecs into a UserError that names the file."""
    try:
        yield
    except EOFError as error:
        reason = str(error).lower() or "unexpected end"
        raise UserError(f"{path} is cut short ({reason}): download or make it again") from error
    except (
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        RuntimeError,
        NotImplementedError,
    ) as error:
        reason = f"{path} is damaged or no such archive ({error})"
        raise UserError(f"{reason}: download or make it again") from error
    except FileNotFoundError as error:
        advice = "give the path of an existing file, or corpus=text8|fil9|wikipedia|sample|planted"
        raise UserError(f"corpus.path: {path.absolute()} not found: {advice}") from error
    except OSError as error:  # bz2 raises it for damage too
        raise_if_refused(path, error)
        advice = "download or make it again"
        raise UserError(f"{path} cannot be read ({error.strerror or error}): {advice}") from error
