"""Where compiled kernels are cached: a folder for each state of the sources.

numba takes a kernel from its cache while the file of that kernel is unchanged, whatever happened to the files of the kernels it
calls. After an edit or an update of one of them it would run the old code without a word.
"""

import atexit
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

SOURCES = Path(__file__).parent
NUMBA, OURS = "NUMBA_CACHE_DIR", "W2V_INF_KERNELS"
"""The second says that the first was set here, by this process or the one that started it."""
KEPT_DAYS = 14
"""How long folders of other states of the sources are kept."""


def separate_caches() -> None:
    """Point numba, which must not be imported yet, at the folder of these sources, for this process and those it starts.

    It is in NUMBA_CACHE_DIR if that is given, else beside the sources or in the home. Where none of them is ours to write in, it is a
    new one that goes with this process.
    """
    digest = hashlib.sha256(
        b"".join(path.read_bytes() for path in sorted(SOURCES.glob("models/**/*.py")))
    ).hexdigest()[:12]
    for parent, tidy in _parents():
        if _is_ours(folder := parent / f"kernels-{digest}"):
            _use(folder)
            if tidy:
                _delete_old(parent, folder)
            return
    # Not a name that others could guess: what is in the cache is run.
    temporary = Path(tempfile.mkdtemp(prefix="w2v_inf-"))
    atexit.register(shutil.rmtree, temporary, ignore_errors=True)
    folder = temporary / f"kernels-{digest}"
    folder.mkdir()
    _use(folder)


def _parents() -> Iterator[tuple[Path, bool]]:
    """Folders to try, and whether old caches in them are ours to delete."""
    given, ours = os.environ.get(NUMBA), os.environ.get(OURS)
    if given:
        yield (Path(given).parent if given == ours else Path(given)), False
        return
    yield SOURCES / "__pycache__", True
    with suppress(RuntimeError):  # a user without a home
        yield Path.home() / ".cache" / "w2v_inf", True


def _is_ours(folder: Path) -> bool:
    """Make the folder if need be; whether it is this user's, and nobody else can write in it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.utime(folder)
        about = folder.stat()
    except OSError:
        return False
    return about.st_uid == os.geteuid() and not about.st_mode & 0o022 and os.access(folder, os.W_OK)


def _use(folder: Path) -> None:
    os.environ[NUMBA] = os.environ[OURS] = str(folder)


def _delete_old(parent: Path, used: Path) -> None:
    """Delete caches of other sources that nobody has used for long."""
    for other in parent.iterdir():
        with suppress(FileNotFoundError):  # another process may delete it too
            old = time.time() - other.stat().st_mtime > KEPT_DAYS * 86400
            if old and other != used and re.fullmatch("kernels-[0-9a-f]{12}", other.name):
                shutil.rmtree(other, ignore_errors=True)
