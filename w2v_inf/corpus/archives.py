"""Bytes of plain and compressed files, as a stream.

Decisions:
- The suffix decides the format.
- Nothing is extracted to a path, so an archive cannot choose where it writes.
- Any complaint of a codec becomes one UserError that names the file.
- zstandard is an extra. Its own file reader does not report a truncated frame, so `_read_zstd`
  follows the frames itself.
"""

import bz2
import gzip
import hashlib
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from w2v_inf.errors import UserError
from w2v_inf.files import sha256

_CHUNK_BYTES = 1 << 20
_OPENERS: dict[str, Callable[[Path], BinaryIO]] = {
    ".gz": lambda path: gzip.open(path, "rb"),  # type: ignore[return-value]
    ".bz2": lambda path: bz2.open(path, "rb"),  # type: ignore[return-value]
    ".xz": lambda path: lzma.open(path, "rb"),  # type: ignore[return-value]
}


def read_text_file(path: Path) -> Iterator[bytes]:
    """Consecutive pieces of the file, decompressed if it ends in .gz, .bz2, .xz or .zst.

    Raises: UserError if the file is missing, damaged or cut short, or for .zst without the package
      zstandard.
    """
    with _as_user_errors(path):
        if path.suffix == ".zst":
            yield from _read_zstd(path)
            return
        with _OPENERS.get(path.suffix, lambda path: path.open("rb"))(path) as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk


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
    """sha256 of the file, hex; 0.1 to 0.3 s per 100 MB."""
    with _as_user_errors(path):
        return sha256(path)


def _read_zstd(path: Path) -> Iterator[bytes]:
    try:
        import zstandard
    except ImportError as error:
        raise UserError(
            f"{path}: reading .zst needs the package zstandard: pip install w2v_inf[zstd]"
        ) from error
    with path.open("rb") as file:
        frame = zstandard.ZstdDecompressor().decompressobj()
        chunk = b""
        try:
            size = _CHUNK_BYTES // 16
            while chunk := (frame.unused_data if frame.eof else b"") or file.read(size):
                if frame.eof:
                    frame = zstandard.ZstdDecompressor().decompressobj()
                yield frame.decompress(chunk)
        except zstandard.ZstdError as error:
            raise UserError(f"{path} is damaged ({error}): download or make it again") from error
    if not frame.eof:
        raise EOFError("compressed file ended before the end-of-stream marker was reached")


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
        gzip.BadGzipFile,
        RuntimeError,
        NotImplementedError,
    ) as error:
        reason = f"{path} is damaged or no such archive ({error})"
        raise UserError(f"{reason}: download or make it again") from error
    except FileNotFoundError as error:
        advice = "give the path of an existing file, or corpus=text8|fil9|wikipedia|sample|planted"
        raise UserError(f"corpus.path: {path.absolute()} not found: {advice}") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
