"""Compiled kernels are cached by the sources of all of them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from w2v_inf.config import PROJECT_ROOT


def cache_of(root: Path, **environment: str) -> Path:
    """The folder that numba uses in a fresh process."""
    code = "import w2v_inf, numba; print(numba.config.CACHE_DIR)"
    inherited = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env=inherited | environment, capture_output=True, text=True, check=True)
    return Path(done.stdout.strip())


def test_an_edit_of_any_kernel_changes_the_folder(tmp_path: Path) -> None:
    shutil.copytree(PROJECT_ROOT / "w2v_inf", tmp_path / "w2v_inf", ignore=shutil.ignore_patterns("__pycache__"))
    before = cache_of(tmp_path)
    assert before == cache_of(tmp_path) and before.is_dir() and before.is_relative_to(tmp_path)
    with open(tmp_path / "w2v_inf" / "models" / "rows.py", "a") as file:
        file.write("# another\n")
    assert cache_of(tmp_path) != before


def test_a_folder_that_was_given_is_kept_and_child_processes_share_it(tmp_path: Path) -> None:
    given = cache_of(PROJECT_ROOT, NUMBA_CACHE_DIR=str(tmp_path))
    assert given.parent == tmp_path
    assert cache_of(PROJECT_ROOT, NUMBA_CACHE_DIR=str(given)) == given
