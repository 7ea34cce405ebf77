"""Thousands of mistakes: options and files that nobody would give on purpose end in one line, never in a traceback.

`pytest tests/test_fuzz.py --hypothesis-show-statistics` counts what was tried and how it ended.
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

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from w2v_inf import cli
from w2v_inf.config import CORPORA, MODELS, Config, Finite, Text8, TextFile, VectorFormat, Wikipedia
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


PHASES = (Phase.generate,)
"""What fails is small enough as it is: no time goes into making it smaller."""


def fuzzed(examples: int) -> settings:
    """The same examples in every run."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=PHASES,
    )


TEXT = "the cat sat on the mat and the dog sat on the cat\n" * 40


def names_of(node: Any, prefix: str = "") -> Iterator[str]:
    """Dotted names of all options below a dataclass."""
    for f in fields(node):
        child = getattr(node, f.name)
        if is_dataclass(child):
            yield from names_of(child, f"{prefix}{f.name}.")
        else:
            yield prefix + f.name


NAMES = sorted(
    {
        name
        for kind in CORPORA
        if kind is not TextFile
        for member in MODELS
        for name in names_of(Config(corpus=kind(), model=member()))
    }
)
NASTY = """null nan inf -inf true ??? ${seed} ${nix} ${oc.env:HOME} ${oc.env:NIX} [ {a:1} [1,x] -1 0 1 2 3 0.5 1e400 0x10 1_000 [] [0]
[2,3] [[1]] / /proc/x ~ . cbow skipgram mup custom bfloat16 exact cuda output text8 never ../../x %s ' " \\"""
VALUES = st.one_of(
    st.sampled_from(["", "a b", "9" * 30, *NASTY.split()]),
    st.integers().map(str),
    st.floats().map(str),
    st.text(max_size=8),
)
GROUPS = st.sampled_from(
    [
        "corpus=",
        "model=",
        "experiment=",
        "+model=",
        "corpus@x=",
        "~model",
        "~train",
        "hydra/launcher=",
        "hydra.job.chdir=",
    ]
)
WHOLE = st.one_of(
    st.builds("{}={}".format, st.sampled_from(NAMES), VALUES),
    st.builds(
        "{}{}={}".format,
        st.sampled_from(["+", "++", "~", ""]),
        st.sampled_from([*NAMES, "x", "train.x", "model.u.v", "a b"]),
        VALUES,
    ),
    st.builds("{}{}".format, GROUPS, VALUES),
    st.text(min_size=1, max_size=12).filter(lambda text: not text.startswith("-")),
)
NAMED = st.tuples(
    st.sampled_from([f"model={kind.name}" for kind in MODELS]),
    st.builds(
        "{}={}".format,
        st.sampled_from(NAMES),
        st.one_of(st.sampled_from(NASTY.split()), st.integers(-3, 99).map(str)),
    ),
).map(list)
"""A model, and one option that most often exists, with a value that Hydra can read."""


@contextlib.contextmanager
def as_in_a_shell(arguments: list[str]) -> Iterator[io.StringIO]:
    """The process as a script finds it; gives what it writes to stderr."""
    log = io.StringIO()
    before, handler = (sys.argv, os.getcwd(), dict(os.environ)), signal.getsignal(signal.SIGTERM)
    sys.argv = ["train.py", *arguments]
    try:
        with contextlib.redirect_stderr(log), contextlib.redirect_stdout(io.StringIO()):
            yield log
    finally:
        sys.argv = before[0]
        os.chdir(before[1])
        os.environ.clear()
        os.environ.update(before[2])
        signal.signal(signal.SIGTERM, handler)


def exit_code(stage: Callable[[Config], object]) -> int:
    try:
        cli.run(stage)
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def train_if_small(config: Config) -> None:
    """Train what takes a moment; of anything else what is decided before it trains."""
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


@fuzzed(600)
@given(st.one_of(st.lists(WHOLE, min_size=1, max_size=3), NAMED))
def test_bad_options_end_in_one_line(overrides: list[str]) -> None:
    with tempfile.TemporaryDirectory() as root:
        Path(root, "toy.txt").write_text(TEXT)
        # The fuzzed options come last, and so count; folders come after them, so that nothing is written elsewhere.
        ours = [
            "corpus=file",
            f"corpus.path={root}/toy.txt",
            "train.epochs=1",
            "num_threads=1",
            "stream.subsample_threshold=0",
        ]
        where = [
            f"runs_dir={root}/runs",
            f"data_dir={root}/data",
            f"run_dir={root}/run",
            f"hydra.run.dir={root}",
            f"hydra.sweep.dir={root}",
        ]
        with as_in_a_shell([*ours, *overrides, *where]) as log:
            code = exit_code(train_if_small)
        written, said = sorted(os.listdir(root)), log.getvalue()
        finished = Path(root, "run", "summary.json").exists()
    assert code in (0, 2), overrides
    assert "Traceback" not in said
    if code == 2:
        last = said.splitlines()[-1]
        assert last.startswith("train.py: ") and len(last) > 20
        event("refused")
        # What is refused leaves no run behind; a loss that is not finite leaves its log, and so does an epoch without examples.
        assert "run" not in written or "the loss is" in last or "no two words" in last or finished
    assert set(written) <= {"toy.txt", "data", "run", "runs"}


def damaged(content: bytes, draw: st.DrawFn) -> bytes:
    """One of the ways in which files go wrong."""
    where = draw(st.integers(0, max(0, len(content) - 1)))
    match draw(st.sampled_from(["cut", "flip", "zeros", "insert", "drop", "twice", "junk"])):
        case "cut":
            return content[:where]
        case "flip":
            return (
                content[:where]
                + bytes([content[where] ^ (1 << draw(st.integers(0, 7)))])
                + content[where + 1 :]
                if content
                else b""
            )
        case "zeros":
            return content[:where] + bytes(len(content) - where)
        case "insert":
            return content[:where] + draw(st.binary(min_size=1, max_size=9)) + content[where:]
        case "drop":
            return content[:where] + content[where + draw(st.integers(1, 99)) :]
        case "twice":
            return content[:where] + content
        case _:
            return draw(st.binary(max_size=200))


def zipped(text: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../outside", b"nobody may write this")
        archive.writestr("text8", text)
    return buffer.getvalue()


def arrow(text: bytes, parquet: bool) -> bytes:
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
    "x.parquet": (lambda text: arrow(text, True), lambda path: Wikipedia(path=path)),
    "x.arrow": (lambda text: arrow(text, False), lambda path: Wikipedia(path=path)),
}
LONG = " ".join(f"w{i % 97} x{i % 31}" for i in range(4000)).encode() + b"\n" + TEXT.encode()


@fuzzed(400)
@given(st.data(), st.sampled_from(sorted(SOURCES)))
def test_damaged_texts_and_archives_end_in_one_line(data: st.DataObject, name: str) -> None:
    make, corpus_of = SOURCES[name]
    content = damaged(make(LONG), data.draw) if data.draw(st.integers(0, 9)) else make(LONG)
    with tempfile.TemporaryDirectory() as root, pytest.MonkeyPatch.context() as patch:
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
    with tempfile.TemporaryDirectory() as root:
        Path(root, "x.txt").write_bytes(TEXT.encode())
        corpus = TextFile(path=f"{root}/x.txt")
        folder = prepare(corpus, Path(root, "data"))
        before = (folder / name).read_bytes()
        after = damaged(before, data.draw)
        (folder / name).write_bytes(after)
        try:
            check_tokens(open_corpus(folder))
            event("unchanged" if after == before else "its texts only")
            # What is not checked by a checksum of its own is the text in corpus.json.
            assert after == before or name == "corpus.json"
        except UserError as error:
            assert "\n" not in str(error) and f"delete the folder {folder}" in str(error)
            event("refused")


@fuzzed(300)
@given(st.data(), st.sampled_from([VectorFormat.text, VectorFormat.binary]))
def test_damaged_files_of_vectors_end_in_one_line(
    data: st.DataObject, format: VectorFormat
) -> None:
    with tempfile.TemporaryDirectory() as root:
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
