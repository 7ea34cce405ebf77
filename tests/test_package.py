"""The wheel is complete: it trains in an empty folder, far from the checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from w2v_inf.config import PROJECT_ROOT

pytestmark = pytest.mark.slow  # builds a wheel and starts processes

BUILT_FROM = ("pyproject.toml", "README.md", "LICENSE", "conf", "data/planted", "w2v_inf")
TEMPLATES = ("reporting/templates", "export/templates")
DATA = [
    *(PROJECT_ROOT / folder for folder in ("conf", "data/planted")),
    *(PROJECT_ROOT / "w2v_inf" / folder for folder in TEMPLATES),
]


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`w2v-inf ARGUMENTS` in an empty folder, with the package of `folder`."""
    (empty := folder.parent / "empty").mkdir(exist_ok=True)
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1"}
    return subprocess.run(
        [sys.executable, "-m", "w2v_inf", *arguments],
        cwd=empty,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The unpacked wheel, built from a copy of the checkout's files."""
    scratch = tmp_path_factory.mktemp("wheel")
    source = scratch / "source"
    for name in BUILT_FROM:
        path, copy = PROJECT_ROOT / name, source / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "kernels-*")
            shutil.copytree(path, copy, symlinks=True, ignore=ignored)
        else:
            shutil.copy(path, copy)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(scratch)]
    done = subprocess.run([*build, str(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    [wheel] = scratch.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(scratch / "package")
    yield scratch / "package"


def test_every_file_of_ours_travels(package: Path) -> None:
    root = package / "w2v_inf"
    for path in (PROJECT_ROOT / "w2v_inf").rglob("*.py"):
        assert (root / path.relative_to(PROJECT_ROOT / "w2v_inf")).is_file(), path
    places = [root / "conf", root / "corpus" / "tables", *(root / name for name in TEMPLATES)]
    for folder, place in zip(DATA, places, strict=True):
        names = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
        assert names and all((place / name).is_file() for name in names), folder
    assert (root / "py.typed").is_file()
    [entry] = package.glob("*.dist-info/entry_points.txt")
    assert "w2v-inf = w2v_inf.cli:main" in entry.read_text()
    assert not (package / "tests").exists()


def test_the_command_works_in_an_empty_folder(package: Path) -> None:
    assert command(package, "--version").stdout.startswith("w2v-inf ")
    small = ["corpus=planted", "corpus.max_vocab=50", "model=ntk_limit", "train.epochs=1"]
    done = command(package, "train", *small, "num_threads=1")
    assert done.returncode == 0, done.stderr
    empty = package.parent / "empty"
    [summary] = empty.glob("runs/planted-cbow/*/summary.json")
    assert list(empty.glob("data/cache/planted-*/tokens.bin"))
    report = command(package, "report", f"plot.runs=[{summary.parent}]")
    assert report.returncode == 0 and Path(report.stdout.strip()).is_file(), report.stderr
    mistake = command(package, "train", "model.widht=4")
    assert mistake.returncode == 2 and "did you mean model.width?" in mistake.stderr
