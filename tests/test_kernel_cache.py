"""Compiled kernels of ours are cached apart, and compiled again after an edit of any of them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from w2v_inf import kernel_cache
from w2v_inf.config import PROJECT_ROOT
from w2v_inf.errors import UserError

pytestmark = pytest.mark.slow  # starts processes that compile

PROBE = """
from numba import njit

@njit(cache=True)
def double(x):
    return 2 * x
"""
FOLDER = "from w2v_inf.models.probe import double; print(double._cache.cache_path)"
HITS = """
from w2v_inf.models.probe import double
double(1)
print(sum(double.stats.cache_hits.values()))
"""
OTHERS = """
import numba, other
import w2v_inf.stream
print(other.double._cache.cache_path, numba.config.CACHE_DIR)
"""


def python(code: str, root: Path, **environment: str) -> str:
    """The output of `code` in a fresh process that imports the package from `root`."""
    inherited = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        env=inherited | {"PYTHONPATH": str(root)} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder with a copy of the package and one small kernel more, to be imported there."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PROJECT_ROOT / "w2v_inf", tmp_path / "w2v_inf", ignore=ignored)
    (tmp_path / "w2v_inf" / "models" / "probe.py").write_text(PROBE)
    return tmp_path


def test_an_edit_of_any_kernel_compiles_all_of_them_again(copy: Path) -> None:
    folder = Path(python(FOLDER, copy))
    assert folder.is_dir() and folder.is_relative_to(copy / "w2v_inf" / "__pycache__")
    assert [python(HITS, copy) for _ in range(2)] == ["0", "1"]
    for edited in ("models/cpu/rows.py", "models/lowrank/basis.py", "stream.py"):
        with open(copy / "w2v_inf" / edited, "a") as file:
            file.write("# another\n")
        before = sorted(folder.iterdir())
        assert [python(HITS, copy) for _ in range(2)] == ["0", "1"]
        assert sorted(folder.iterdir()) == before  # the old code is overwritten


def test_the_import_makes_no_folder_and_leaves_numba_alone(copy: Path) -> None:
    code = "import os, sys, w2v_inf; print('numba' in sys.modules, 'NUMBA_CACHE_DIR' in os.environ)"
    assert python(code, copy, PYTHONDONTWRITEBYTECODE="1") == "False False"
    assert not (copy / "w2v_inf" / "__pycache__").exists()


def test_other_packages_keep_their_cache(copy: Path) -> None:
    (copy / "other.py").write_text(
        "import w2v_inf.stream, numba\n@numba.njit(cache=True)\ndef double(x):\n    return 2 * x\n"
    )
    assert python(OTHERS, copy) == f"{copy / '__pycache__'}"


def test_a_folder_that_was_given_is_used(copy: Path, tmp_path: Path) -> None:
    given = tmp_path / "given"
    assert Path(python(FOLDER, copy, NUMBA_CACHE_DIR=str(given))).is_relative_to(given)


def test_a_folder_that_others_can_write_in_is_not_used(copy: Path, tmp_path: Path) -> None:
    """Whatever lies in a cache is executed."""
    given = tmp_path / "given"
    first = Path(python(FOLDER, copy, NUMBA_CACHE_DIR=str(given)))
    next(given.iterdir()).chmod(0o777)
    second = Path(python(FOLDER, copy, NUMBA_CACHE_DIR=str(given)))
    assert second != first and not second.is_relative_to(given)


def test_without_a_folder_to_write_in_the_cache_is_of_this_process(
    copy: Path, tmp_path: Path
) -> None:
    """A file stands where the folder would be. Each process gets its own, and nothing is left."""
    (tmp_path / "tmp").mkdir()
    (tmp_path / "file").touch()
    blocked = {"NUMBA_CACHE_DIR": str(tmp_path / "file"), "TMPDIR": str(tmp_path / "tmp")}
    first, second = (Path(python(FOLDER, copy, **blocked)) for _ in range(2))
    assert first != second and first.is_relative_to(tmp_path / "tmp")
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_read_only_package_caches_in_the_home(copy: Path, tmp_path: Path) -> None:
    (copy / "w2v_inf" / "__pycache__").write_text("no folder can be made here")
    home = tmp_path / "home"
    assert Path(python(FOLDER, copy, HOME=str(home))).is_relative_to(home / ".cache")


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", [lambda old: b"", lambda old: old[:-9], lambda old: bytes(99)])
def test_a_file_cut_short_by_a_power_cut_is_compiled_again(suffix, damage, copy: Path) -> None:
    folder = Path(python(FOLDER, copy))
    assert python(HITS, copy) == "0"
    [file] = folder.glob(f"probe.double-*.{suffix}")
    file.write_bytes(damage(file.read_bytes()))
    assert [python(HITS, copy) for _ in range(2)] == ["0", "1"]


def test_a_full_disk_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    full = SimpleNamespace(free=1000)
    monkeypatch.setattr(kernel_cache.shutil, "disk_usage", lambda folder: full)
    kernel_cache.cache_folder.cache_clear()
    assert not kernel_cache.cache_folder().is_relative_to(tmp_path)
    kernel_cache.cache_folder.cache_clear()


def test_kernels_that_may_not_be_compiled_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Interpreted, their arithmetic would be another."""
    monkeypatch.setattr(kernel_cache.config, "DISABLE_JIT", 1)
    with pytest.raises(UserError, match="NUMBA_DISABLE_JIT is set"):
        kernel_cache.register()


def test_numba_may_be_imported_first(copy: Path) -> None:
    assert [python("import numba\n" + HITS, copy) for _ in range(2)] == ["0", "1"]
    with open(copy / "w2v_inf" / "models" / "probe.py", "a") as file:
        file.write("# another\n")
    assert python("import numba\n" + HITS, copy) == "0"
