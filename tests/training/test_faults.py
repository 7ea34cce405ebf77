"""What the machine does to a run: full and read-only disks, processes beside it, clocks that jump."""

import os
import resource
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from composed import config_of

from w2v_inf.config import PROJECT_ROOT
from w2v_inf.corpus.load import open_corpus
from w2v_inf.corpus.prepare import prepare
from w2v_inf.errors import UserError
from w2v_inf.files import read_json
from w2v_inf.training import train as train_stage

pytestmark = pytest.mark.slow  # trains whole runs or starts processes

TEXT = "the cat sat on the mat and the dog sat on the cat\n" * 40
TRAIN = PROJECT_ROOT / "scripts" / "train.py"


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    (tmp_path / "toy.txt").write_text(TEXT)
    where = [
        f"corpus.path={tmp_path}/toy.txt",
        f"data_dir={tmp_path}/data",
        f"run_dir={tmp_path}/run",
    ]
    return [
        "corpus=file",
        *where,
        "stream.subsample_threshold=0",
        "train.epochs=1",
        "num_threads=1",
        "device=cpu",
    ]


def start(*arguments: str, file_bytes: int | None = None) -> subprocess.Popen[str]:
    """scripts/train.py; no file that it writes may become larger than `file_bytes`, as on a disk with no more room."""
    limit = (
        None
        if file_bytes is None
        else lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    )
    return subprocess.Popen(
        [sys.executable, str(TRAIN), *arguments],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=limit,
    )


def test_a_model_that_finds_no_room_is_one_line(options: list[str], tmp_path: Path) -> None:
    with start(*options, "model.width=100000", file_bytes=4 << 20) as process:
        _, log = process.communicate(timeout=60)
    assert process.returncode == 2 and "Traceback" not in log
    assert log.splitlines()[-1].startswith(
        f"train.py: {tmp_path}/run/model.safetensors cannot be written"
    )
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "config.yaml",
        "environment.json",
        "metrics.jsonl",
        "vocab.tsv",
    ]
    with start(*options, "model.width=100000") as process:
        _, log = process.communicate(timeout=60)
    assert process.returncode == 0, log


def test_runs_at_once_share_a_cache_and_not_a_folder(options: list[str], tmp_path: Path) -> None:
    runs = [start(*options, f"run_dir={tmp_path}/run{n}", f"seed={n}") for n in range(3)]
    logs = [run.communicate(timeout=120)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0], logs
    assert len(os.listdir(tmp_path / "data")) == 1
    assert (
        len({read_json(tmp_path / f"run{n}" / "summary.json")["corpus_checksum"] for n in range(3)})
        == 1
    )


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A folder with a cached corpus that this process may not write; for root, another user is tried."""
    root = Path(tempfile.mkdtemp())
    (root / "toy.txt").write_text(TEXT)
    prepare(config_of("corpus=file", f"corpus.path={root}/toy.txt").corpus, root / "data")
    (root / "other.txt").write_text(TEXT * 2)
    for path in (root, *root.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield root
    finally:
        os.seteuid(user)
        for path in (root, *root.rglob("*")):
            path.chmod(path.stat().st_mode | stat.S_IWUSR | stat.S_IXUSR)
        shutil.rmtree(root)


def test_a_read_only_cache_serves_what_it_has(read_only: Path) -> None:
    corpus = open_corpus(
        prepare(
            config_of("corpus=file", f"corpus.path={read_only}/toy.txt").corpus, read_only / "data"
        )
    )
    assert len(corpus.tokens) == len(TEXT.split())
    with pytest.raises(
        UserError, match=r"data_dir: cannot write .*Permission denied: choose another data_dir"
    ):
        prepare(
            config_of("corpus=file", f"corpus.path={read_only}/other.txt").corpus,
            read_only / "data",
        )
    with pytest.raises(UserError, match=r"run_dir=.* cannot be written \(Permission denied\)"):
        train_stage.train(
            config_of(
                "corpus=file",
                f"corpus.path={read_only}/toy.txt",
                f"data_dir={read_only}/data",
                f"run_dir={read_only}/run",
            )
        )


def test_a_cache_whose_tokens_were_edited_is_not_trained_on(
    options: list[str], tmp_path: Path
) -> None:
    folder = prepare(config_of(*options).corpus, tmp_path / "data")
    tokens = bytearray((folder / "tokens.bin").read_bytes())
    tokens[7] = 0x80  # an id far below zero
    (folder / "tokens.bin").write_bytes(tokens)
    with pytest.raises(UserError, match=r"tokens.bin must have sha256 .*: delete the folder"):
        train_stage.train(config_of(*options))
    assert not (tmp_path / "run").exists()


def test_a_clock_that_jumps_does_no_harm(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = time.time, []

    def jumping() -> float:
        calls.append(1)
        return real() + (-1) ** len(calls) * 1e6

    monkeypatch.setattr(time, "time", jumping)
    start_s = time.perf_counter()
    summary = read_json(train_stage.train(config_of(*options)) / "summary.json")
    assert 0 < summary["wall_s"] < time.perf_counter() - start_s and summary["words_per_s"] > 0
