"""Fuzz tests: bad options and damaged files end in one line, never in a traceback.

Decisions:
- Most option sets are composed by Hydra's Compose API. `hydra.main` composes twice per call and
  sets up logging and folders, which costs three times as much. 60 option sets take that full path.
- Temporary folders lie in memory where possible.

`pytest tests/test_fuzz.py --hypothesis-show-statistics` counts the examples and their outcomes.
"""

import bz2
import contextlib
import gzip
import hashlib
import io
import lzma
import os
import signal
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from fuzzing import MEMORY, damaged, fuzzed
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hypothesis import event, given
from hypothesis import strategies as st
from omegaconf import DictConfig, open_dict

from w2v_inf import cli
from w2v_inf.config import (
    CONF,
    CORPORA,
    MODELS,
    Config,
    Finite,
    Text8,
    TextFile,
    VectorFormat,
    Wikipedia,
)
from w2v_inf.corpus import sources
from w2v_inf.corpus.load import check_tokens, open_corpus
from w2v_inf.corpus.prepare import prepare
from w2v_inf.corpus.vocabulary import Vocabulary
from w2v_inf.errors import UserError
from w2v_inf.models.device import pick_device
from w2v_inf.runs.folder import run_folder
from w2v_inf.training import train as train_stage
from w2v_inf.word2vec_format import read_vectors, write_vectors

pytestmark = pytest.mark.slow  # hundreds of examples

TEXT = "the cat sat on the mat and the dog sat on the cat\n" * 40


def option_names(node: Any, prefix: str = "") -> Iterator[str]:
    """Dotted names of all options of a dataclass."""
    for f in fields(node):
        child = getattr(node, f.name)
        if is_dataclass(child):
            yield from option_names(child, f"{prefix}{f.name}.")
        else:
            yield prefix + f.name


NAMES = sorted(
    {
        name
        for corpus in CORPORA
        if corpus is not TextFile  # which has no default path
        for model in MODELS
        for name in option_names(Config(corpus=corpus(), model=model()))
    }
)
NASTY = """null nan inf -inf true ??? ${seed} ${nix} ${oc.env:HOME} ${oc.env:NIX} [ {a:1} [1,x]
-1 0 1 2 3 0.5 1e400 0x10 1_000 [] [0] [2,3] [[1]] / /proc/x ~ . cbow skipgram mup custom
bfloat16 exact cuda output text8 never ../../x %s ' " \\""".split()
VALUES = st.one_of(
    st.sampled_from(["", "a b", "9" * 30, *NASTY]),
    st.integers().map(str),
    st.floats().map(str),
    st.text(max_size=8),
)
GROUPS = """corpus= model= experiment= +model= corpus@x= ~model ~train hydra/launcher=
hydra.job.chdir=""".split()
ANY_OVERRIDE = st.one_of(
    st.builds("{}={}".format, st.sampled_from(NAMES), VALUES),
    st.builds(
        "{}{}={}".format,
        st.sampled_from(["+", "++", "~", ""]),
        st.sampled_from([*NAMES, "x", "train.x", "model.u.v", "a b"]),
        VALUES,
    ),
    st.builds("{}{}".format, st.sampled_from(GROUPS), VALUES),
    st.text(min_size=1, max_size=12).filter(lambda text: not text.startswith("-")),
)
LIKELY_OVERRIDES = st.tuples(
    st.sampled_from([f"model={model.name}" for model in MODELS]),
    st.builds(
        "{}={}".format,
        st.sampled_from(NAMES),
        st.one_of(st.sampled_from(NASTY), st.integers(-3, 99).map(str)),
    ),
).map(list)
"""A model, and an option that most often exists, with a value that Hydra can parse."""
OVERRIDES = st.one_of(st.lists(ANY_OVERRIDE, min_size=1, max_size=3), LIKELY_OVERRIDES)


@pytest.fixture
def composed_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`hydra.main` without its command line: the Compose API composes `sys.argv[1:]` once."""

    def main(config_name: str, **_: Any) -> Callable[[Callable[[DictConfig], None]], Any]:
        def compose_and_call(task: Callable[[DictConfig], None]) -> None:
            cfg = compose(config_name, overrides=sys.argv[1:], return_hydra_config=True)
            HydraConfig.instance().set_config(cfg)
            with open_dict(cfg):
                del cfg["hydra"]
            task(cfg)

        return lambda task: lambda: compose_and_call(task)

    monkeypatch.setattr(hydra, "main", main)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


@contextlib.contextmanager
def script_process(arguments: list[str]) -> Iterator[io.StringIO]:
    """Process state as a script finds it, restored at the end; yields its stderr."""
    log = io.StringIO()
    argv, folder, environment = sys.argv, os.getcwd(), dict(os.environ)
    handler = signal.getsignal(signal.SIGTERM)
    sys.argv = ["train.py", *arguments]
    try:
        with contextlib.redirect_stderr(log), contextlib.redirect_stdout(io.StringIO()):
            yield log
    finally:
        sys.argv = argv
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        signal.signal(signal.SIGTERM, handler)


def exit_code(stage: Callable[[Config], object]) -> int:
    try:
        cli.run(stage)
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def train_if_small(config: Config) -> None:
    """Train if that takes a moment; otherwise only do the checks that precede training."""
    width = config.model.width if isinstance(config.model, Finite) else 0
    folder = run_folder(config)
    if (
        config.train.epochs > 3
        or width > 1000
        or config.stream.batch_size > 1000
        or not isinstance(config.corpus, TextFile)
    ):
        pick_device(config.device)
        event("accepted")
    else:
        train_stage.train(config)
        assert (folder / "summary.json").exists()
        event("trained")


def check_overrides(overrides: list[str]) -> None:
    """Run the stage with these options, and check how it ends and what it leaves behind."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as root:
        Path(root, "toy.txt").write_text(TEXT)
        # Later options win: first ours, then the fuzzed ones, then folders, so that nothing is
        # written elsewhere.
        ours = [
            "corpus=file",
            f"corpus.path={root}/toy.txt",
            "train.epochs=1",
            "num_threads=1",
            "stream.subsample_threshold=0",
        ]
        folders = [
            f"runs_dir={root}/runs",
            f"data_dir={root}/data",
            f"run_dir={root}/run",
            f"hydra.run.dir={root}",
            f"hydra.sweep.dir={root}",
        ]
        with script_process([*ours, *overrides, *folders]) as log:
            code = exit_code(train_if_small)
        written, said = sorted(os.listdir(root)), log.getvalue()
        finished = Path(root, "run", "summary.json").exists()
    assert code in (0, 2), overrides
    assert "Traceback" not in said
    if code == 2:
        last = said.splitlines()[-1]
        assert last.startswith("train.py: ") and len(last) > 20
        event("refused")
        # Refused options leave no run folder. A loss that is not finite leaves its log, and so
        # does an epoch without examples.
        assert "run" not in written or "the loss is" in last or "no two words" in last or finished
    assert set(written) <= {"toy.txt", "data", "run", "runs"}


@fuzzed(540)
@given(OVERRIDES)
def test_bad_options_end_in_one_line(composed_once: None, overrides: list[str]) -> None:
    check_overrides(overrides)


@fuzzed(60)
@given(OVERRIDES)
def test_bad_options_end_in_one_line_through_hydra_main(overrides: list[str]) -> None:
    check_overrides(overrides)


def zipped(text: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../outside", b"nobody may write this")
        archive.writestr("text8", text)
    return buffer.getvalue()


def as_arrow(text: bytes, parquet: bool) -> bytes:
    rows = pa.table({"text": text.decode().splitlines()})
    sink = pa.BufferOutputStream()
    if parquet:
        pq.write_table(rows, sink)
    else:
        with pa.ipc.new_stream(sink, rows.schema) as writer:
            writer.write_table(rows)
    return sink.getvalue().to_pybytes()


SOURCES: dict[str, tuple[Callable[[bytes], bytes], Callable[[str], Any]]] = {
    "x.txt": (bytes, lambda path: TextFile(path=path)),
    "x.gz": (gzip.compress, lambda path: TextFile(path=path)),
    "x.bz2": (bz2.compress, lambda path: TextFile(path=path)),
    "x.xz": (lzma.compress, lambda path: TextFile(path=path)),
    "x.zst": (zstandard.compress, lambda path: TextFile(path=path)),
    "x.zip": (zipped, lambda path: Text8(path=path)),
    "x.parquet": (lambda text: as_arrow(text, True), lambda path: Wikipedia(path=path)),
    "x.arrow": (lambda text: as_arrow(text, False), lambda path: Wikipedia(path=path)),
}
LONG = " ".join(f"w{i % 97} x{i % 31}" for i in range(4000)).encode() + b"\n" + TEXT.encode()


@fuzzed(400)
@given(st.data(), st.sampled_from(sorted(SOURCES)))
def test_damaged_texts_and_archives_end_in_one_line(data: st.DataObject, name: str) -> None:
    make, corpus_of = SOURCES[name]
    content = damaged(make(LONG), data.draw) if data.draw(st.integers(0, 9)) else make(LONG)
    with tempfile.TemporaryDirectory(dir=MEMORY) as root, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "TEXT8", sources.Archive("", "text8", hashlib.md5(LONG).hexdigest()))
        folder = Path(root, "in", "here")
        folder.mkdir(parents=True)
        (folder / name).write_bytes(content)
        try:
            corpus = open_corpus(prepare(corpus_of(str(folder / name)), Path(root, "in", "data")))
            assert len(corpus.tokens) > 1
            del corpus
            event("read")
        except UserError as error:
            assert "\n" not in str(error) and name in str(error)
            event("refused")
            assert (
                not os.path.exists(Path(root, "in", "data"))
                or os.listdir(Path(root, "in", "data")) == []
            )
        assert os.listdir(root) == ["in"] and os.listdir(folder) == [name]


@fuzzed(300)
@given(st.data(), st.sampled_from(["tokens.bin", "documents.npy", "vocab.tsv", "corpus.json"]))
def test_a_damaged_cache_is_never_trained_on(data: st.DataObject, name: str) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as root:
        Path(root, "x.txt").write_bytes(TEXT.encode())
        corpus = TextFile(path=f"{root}/x.txt")
        folder = prepare(corpus, Path(root, "data"))
        before = (folder / name).read_bytes()
        after = damaged(before, data.draw)
        (folder / name).write_bytes(after)
        try:
            check_tokens(open_corpus(folder))
            event("unchanged" if after == before else "only texts changed")
            # corpus.json holds text without a checksum of its own.
            assert after == before or name == "corpus.json"
        except UserError as error:
            assert "\n" not in str(error) and f"delete the folder {folder}" in str(error)
            event("refused")


@fuzzed(300)
@given(st.data(), st.sampled_from([VectorFormat.text, VectorFormat.binary]))
def test_damaged_files_of_vectors_end_in_one_line(
    data: st.DataObject, format: VectorFormat
) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as root:
        path = Path(root, "vectors")
        table = np.random.default_rng(0).standard_normal((20, 5)).astype(np.float32)
        write_vectors(
            path, Vocabulary([f"w{i}" for i in range(20)], np.arange(20, 0, -1)), table, format
        )
        path.write_bytes(damaged(path.read_bytes(), data.draw))
        try:
            vocab, vectors = read_vectors(path)
            assert len(vocab) == len(vectors) and np.isfinite(vectors).all()
            event("read")
        except UserError as error:
            assert "\n" not in str(error) and "vectors" in str(error)
            event("refused")
