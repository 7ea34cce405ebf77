"""Compiled kernels are cached by the sources of all of them."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from w2v_inf.config import PROJECT_ROOT
from w2v_inf.kernel_cache import NUMBA, OURS


def cache_of(root: Path, **environment: str) -> Path:
    """The folder that numba uses in a fresh process."""
    code = "import w2v_inf, numba; print(numba.config.CACHE_DIR)"
    inherited = {name: value for name, value in os.environ.items() if name not in (NUMBA, OURS)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return Path(done.stdout.strip())


def sources(folder: Path) -> Path:
    """A copy of the package in `folder`, to be imported there."""
    shutil.copytree(
        PROJECT_ROOT / "w2v_inf", folder / "w2v_inf", ignore=shutil.ignore_patterns("__pycache__")
    )
    return folder


def test_an_edit_of_any_kernel_changes_the_folder(tmp_path: Path) -> None:
    before = cache_of(sources(tmp_path))
    assert before == cache_of(tmp_path) and before.is_dir() and before.is_relative_to(tmp_path)
    with open(tmp_path / "w2v_inf" / "models" / "cpu" / "rows.py", "a") as file:
        file.write("# another\n")
    assert cache_of(tmp_path) != before


def test_a_folder_that_was_given_is_kept_and_child_processes_share_it(tmp_path: Path) -> None:
    given = cache_of(PROJECT_ROOT, **{NUMBA: str(tmp_path)})
    assert given.parent == tmp_path
    assert cache_of(PROJECT_ROOT, **{NUMBA: str(given), OURS: str(given)}) == given


def test_caches_of_old_sources_are_deleted(tmp_path: Path) -> None:
    """After a fortnight without use, beside the sources; never in a folder that was given, and nothing else."""
    for parent in (sources(tmp_path) / "w2v_inf" / "__pycache__", tmp_path / "given"):
        for name, days in (
            ("kernels-0123456789ab", 20),
            ("kernels-ba9876543210", 3),
            ("kernels-thesis", 20),
        ):
            (parent / name).mkdir(parents=True)
            then = time.time() - days * 86400
            os.utime(parent / name, (then, then))
    left = {"kernels-ba9876543210", "kernels-thesis"}
    used = cache_of(tmp_path)
    assert {path.name for path in used.parent.glob("kernels-*")} == left | {used.name}
    used = cache_of(tmp_path, **{NUMBA: str(tmp_path / "given")})
    assert {path.name for path in used.parent.iterdir()} == left | {
        used.name,
        "kernels-0123456789ab",
    }


def test_a_folder_that_others_can_write_in_is_not_used(tmp_path: Path) -> None:
    """What lies in it would be run."""
    first = cache_of(PROJECT_ROOT, **{NUMBA: str(tmp_path)})
    first.chmod(0o777)
    assert cache_of(PROJECT_ROOT, **{NUMBA: str(tmp_path)}) != first


def test_without_a_folder_to_write_in_it_is_one_of_this_process(tmp_path: Path) -> None:
    """A file stands where the folder would be; the next process gets another one, and nothing is left."""
    (tmp_path / "file").touch()
    first, second = (
        cache_of(PROJECT_ROOT, **{NUMBA: str(tmp_path / "file"), "TMPDIR": str(tmp_path)})
        for _ in range(2)
    )
    assert first != second and first.is_relative_to(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
