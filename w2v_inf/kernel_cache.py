"""Where compiled kernels are cached: a folder for each state of the sources.

numba takes a kernel from its cache while the file of that kernel is unchanged, whatever happened to the files of the kernels it
calls. After an edit or an update of one of them it would run the old code without a word.
"""

import hashlib
import os
import tempfile
from pathlib import Path

SOURCES = Path(__file__).parent


def separate_caches() -> None:
    """Point numba, which must not be imported yet, at the folder of these sources, for this process and those it starts."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(SOURCES.glob("models/*.py"))))
    name = f"kernels-{digest.hexdigest()[:12]}"
    given = os.environ.get("NUMBA_CACHE_DIR")
    if given and Path(given).name.startswith("kernels-"):
        given = str(Path(given).parent)  # a process that this one's parent pointed
    for folder in (Path(given) if given else SOURCES / "__pycache__", Path.home() / ".cache" / "w2v_inf", Path(tempfile.gettempdir())):
        try:
            (folder / name).mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder / name, os.W_OK):
            os.environ["NUMBA_CACHE_DIR"] = str(folder / name)
            return
