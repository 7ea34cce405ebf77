"""Where compiled kernels are cached: a folder for each state of the sources.

numba takes a kernel from its cache while the file of that kernel is unchanged, whatever happened to the files of the kernels it
calls. After an edit or an update of one of them it would run the old code without a word.
"""

import atexit
import hashlib
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

SOURCES = Path(__file__).parent
PREFIX = "kernels-"
KEPT_DAYS = 14
"""How long folders of other states of the sources are kept."""


def separate_caches() -> None:
    """Point numba, which must not be imported yet, at the folder of these sources, for this process and those it starts.

    Beside the sources, or else in the home; where neither can be written, in a new folder that goes with this process.
    """
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(SOURCES.glob("models/*.py"))))
    given = os.environ.get("NUMBA_CACHE_DIR")
    if given and Path(given).name.startswith(PREFIX):
        given = str(Path(given).parent)  # a process that this one's parent pointed
    for folder in (Path(given) if given else SOURCES / "__pycache__", Path.home() / ".cache" / "w2v_inf"):
        if _take(folder / f"{PREFIX}{digest.hexdigest()[:12]}"):
            return
    # Not a name that others could guess: what is in the cache is run.
    temporary = tempfile.mkdtemp(prefix="w2v_inf-")
    atexit.register(shutil.rmtree, temporary, ignore_errors=True)
    _take(Path(temporary) / f"{PREFIX}{digest.hexdigest()[:12]}")


def _take(folder: Path) -> bool:
    """Use the folder, and delete its siblings that nobody has used for long; False if it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        os.utime(folder)
    except OSError:
        return False
    if not os.access(folder, os.W_OK):
        return False
    os.environ["NUMBA_CACHE_DIR"] = str(folder)
    for other in folder.parent.glob(f"{PREFIX}*"):
        with suppress(FileNotFoundError):  # another process may delete it too
            if other != folder and time.time() - other.stat().st_mtime > KEPT_DAYS * 86400:
                shutil.rmtree(other, ignore_errors=True)
    return True
