"""Where numba caches the compiled kernels of this package, and when it compiles them again.

numba takes a function from its cache while the file of that function is unchanged. It does not
look at the files of the functions that it calls, so an edit there would go unnoticed.

Decisions:
- The stamp of every kernel of ours covers all sources with kernels. An edit recompiles them all.
- numba asks its locators in order which one serves a function. Ours stands first and answers for
  functions of this package only, so other packages keep their caches, and NUMBA_CACHE_DIR.
- Nothing happens before the first kernel is defined: `import w2v_inf` makes no folder.
- A cache holds machine code and pickles, both of which are executed. A folder in which others can
  write is therefore not used.
- The list of locators is private to numba. If a release drops it, the import of the kernels fails
  at once, and not silently.
"""

import atexit
import hashlib
import os
import pickle
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any

from numba import config
from numba.core.caching import CacheImpl, _CacheLocator

from w2v_inf.errors import UserError

PACKAGE = Path(__file__).resolve().parent
NEEDED_BYTES = 64 << 20
"""Room for all kernels."""
KERNEL_SOURCES = ("stream.py", "corpus/phrases.py", "models/**/*.py")
"""Patterns of the files that define kernels, below the package."""


class KernelLocator(_CacheLocator):
    """Cache of one kernel of this package, as numba's `CacheImpl` asks for it."""

    def __init__(self, function: FunctionType, file: str) -> None:
        self._py_file = file  # numba reads it for its warnings
        self._line = function.__code__.co_firstlineno
        folder = Path(file).resolve().parent.relative_to(PACKAGE)
        self._folder = cache_folder() / folder

    @classmethod
    def from_function(cls, py_func: FunctionType, py_file: str) -> "KernelLocator | None":
        """The locator of a kernel, or None for the function of another package."""
        if not Path(py_file).resolve().is_relative_to(PACKAGE):
            return None
        locator = cls(py_func, py_file)
        locator.ensure_cache_path()
        return locator

    def get_cache_path(self) -> Any:
        return str(self._folder)

    def get_source_stamp(self) -> Any:
        return source_stamp()

    def get_disambiguator(self) -> Any:
        return str(self._line)


def register() -> None:
    """Have numba cache the kernels of this package here; call before the first is defined.

    Raises: UserError if numba is told not to compile: the kernels rely on C's arithmetic.
    """
    if config.DISABLE_JIT:  # pyright: ignore[reportAttributeAccessIssue]
        raise UserError("NUMBA_DISABLE_JIT is set, and w2v_inf needs compiled kernels: unset it")
    if KernelLocator not in CacheImpl._locator_classes:
        CacheImpl._locator_classes.insert(0, KernelLocator)


@cache
def source_stamp() -> str:
    """sha256, hex, of all sources with kernels."""
    files = sorted(file for pattern in KERNEL_SOURCES for file in PACKAGE.glob(pattern))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


@cache
def cache_folder() -> Path:
    """The first candidate that only this user can write in; else a temporary folder.

    The temporary folder goes with the process. Its name cannot be guessed by others.
    """
    for folder in _candidates():
        if _is_private(folder) and _has_room(folder):
            _remove_damaged(folder)
            return folder
    temporary = Path(tempfile.mkdtemp(prefix="w2v_inf-"))
    atexit.register(shutil.rmtree, temporary, ignore_errors=True)
    return temporary


def _candidates() -> Iterator[Path]:
    """Folders to try: below NUMBA_CACHE_DIR if given, else beside the sources and in the home.

    Two installed copies of the package must not share a folder, hence the hash of its path.
    """
    own_name = f"w2v_inf-{hashlib.sha256(str(PACKAGE).encode()).hexdigest()[:12]}"
    if given := os.environ.get("NUMBA_CACHE_DIR"):
        yield Path(given) / own_name
        return
    yield PACKAGE / "__pycache__" / "kernels"
    with suppress(RuntimeError):  # a user without a home
        yield Path.home() / ".cache" / own_name


def _has_room(folder: Path) -> bool:
    """Whether the kernels fit: a full disk must not stop a run whose files lie elsewhere."""
    return shutil.disk_usage(folder).free >= NEEDED_BYTES


def _remove_damaged(folder: Path) -> None:
    """Delete files that a power cut has left empty, cut short or full of zeros.

    numba writes pickles, which end with a full stop. It would fail at each start.
    """
    for file in folder.rglob("*.nb[ci]"):
        with suppress(OSError), file.open("rb") as content:
            content.seek(max(0, file.stat().st_size - 1))
            if content.read() != pickle.STOP:
                file.unlink()


def _is_private(folder: Path) -> bool:
    """Make the folder if need be. Is it ours, writable, and closed to others?"""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError:
        return False
    is_closed = status.st_uid == os.geteuid() and not status.st_mode & 0o022
    return is_closed and os.access(folder, os.W_OK)
