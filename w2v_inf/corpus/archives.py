"""Bytes of plain and compressed files, as a stream.

Decisions:
- The suffix decides the format; nothing is ever extracted to a path, so an archive cannot choose where it writes.
- Whatever a codec says of a damaged file becomes one UserError naming the file.
- zstandard is optional. Its file reader ends in silence on a frame cut short, so frames are followed here.
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
    """Pieces of the file, decompressed if it ends in .gz, .bz2, .xz or .zst.

    Raises: UserError if the file is missing, damaged or cut short, or for .zst without the package zstandard.
    """
    with _clear_errors(path):
        if path.suffix == ".zst":
            yield from _read_zstd(path)
            return
        with _OPENERS.get(path.suffix, lambda path: path.open("rb"))(path) as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk


def read_zip_member(path: Path, member: str, md5: str) -> Iterator[bytes]:
    """Pieces of one member of a zip; nothing else in the zip is looked at.

    Raises: UserError if it is no zip, is damaged, lacks the member or, at the end, if the member has another md5.
    """
    digest = hashlib.md5(usedforsecurity=False)
    with _clear_errors(path), zipfile.ZipFile(path) as archive:
        if member not in archive.namelist():
            raise UserError(
                f"{path} must contain a file {member!r}, has {', '.join(archive.namelist()[:3]) or 'none'}: give the original zip"
            )
        with archive.open(member) as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
                yield chunk
    if digest.hexdigest() != md5:
        raise UserError(
            f"{path}: {member} must have md5 {md5}, has {digest.hexdigest()}: delete it and download it again"
        )


def hash_file(path: Path) -> str:
    """sha256 of the file's bytes, hex; 0.1 to 0.3 s per 100 MB."""
    with _clear_errors(path):
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
            while chunk := (frame.unused_data if frame.eof else b"") or file.read(
                _CHUNK_BYTES // 16
            ):
                if frame.eof:
                    frame = zstandard.ZstdDecompressor().decompressobj()
                yield frame.decompress(chunk)
        except zstandard.ZstdError as error:
            raise UserError(f"{path} is damaged ({error}): download or make it again") from error
    if not frame.eof:
        raise EOFError("compressed file ended before the end-of-stream marker was reached")


@contextmanager
def _clear_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except EOFError as error:
        raise UserError(
            f"{path} is cut short ({str(error).lower() or 'unexpected end'}): download or make it again"
        ) from error
    except (
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        gzip.BadGzipFile,
        RuntimeError,
        NotImplementedError,
    ) as error:
        raise UserError(
            f"{path} is damaged or no such archive ({error}): download or make it again"
        ) from error
    except FileNotFoundError as error:
        named = "or a corpus by its name (text8, fil9, wikipedia, sample, planted)"
        raise UserError(
            f"corpus.path: {path} not found: give the path of an existing file, {named}"
        ) from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
