"""Compiled kernels are cached by the sources of all of them."""

import os
import shutil
import subprocess
import sys
import time
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


def test_folders_of_old_sources_are_deleted(tmp_path: Path) -> None:
    """After a fortnight without use; those used since are kept."""
    for name, days in (("kernels-old", 20), ("kernels-recent", 3), ("other", 20)):
        (tmp_path / name).mkdir()
        then = time.time() - days * 86400
        os.utime(tmp_path / name, (then, then))
    used = cache_of(PROJECT_ROOT, NUMBA_CACHE_DIR=str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {used.name, "kernels-recent", "other"}


def test_without_a_folder_to_write_in_it_is_one_of_this_process(tmp_path: Path) -> None:
    """A file stands where each folder would be; the next process gets another one."""
    (tmp_path / "file").touch()
    blocked = {"NUMBA_CACHE_DIR": str(tmp_path / "file"), "HOME": str(tmp_path / "file"), "TMPDIR": str(tmp_path)}
    first, second = (cache_of(PROJECT_ROOT, **blocked) for _ in range(2))
    assert first != second and first.is_relative_to(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
