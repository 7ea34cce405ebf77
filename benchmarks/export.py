"""How long do vectors take to gensim, or to a folder, and back? V x D random numbers, all formats.

Checked: gensim reads the same bits, we read what gensim writes and answer the same analogies, and
folders give the same bits back.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from gensim.models import KeyedVectors

from w2v_inf.config import VectorFormat
from w2v_inf.corpus.vocabulary import Vocabulary
from w2v_inf.evaluation.analogy import analogy_hits, load_questions, read_questions
from w2v_inf.models.linear import LinearModel
from w2v_inf.vector_folders.hub import write_hub
from w2v_inf.vector_folders.projector import write_projector
from w2v_inf.vector_folders.read import read_file_or_folder
from w2v_inf.word2vec_format import SUFFIXES, read_vectors, write_vectors


def make(num_words: int, num_columns: int) -> tuple[Vocabulary, np.ndarray]:
    """The words of all questions, and invented ones; some answers are near b - a + c."""
    words = list(
        dict.fromkeys(
            word for _, questions in read_questions() for question in questions for word in question
        )
    )
    words += [f"word{i}" for i in range(num_words - len(words))]
    vocab = Vocabulary(words, np.arange(len(words), 0, -1))
    vectors = np.random.default_rng(0).standard_normal((len(words), num_columns)).astype(np.float32)
    a, b, c, d = load_questions(vocab).ids.numpy()[::20].T
    vectors[d] += 0.5 * (vectors[b] - vectors[a] + vectors[c])
    return vocab, vectors


def answers(vocab: Vocabulary, vectors: np.ndarray) -> torch.Tensor:
    table = torch.from_numpy(vectors)
    return analogy_hits(LinearModel(table, table), load_questions(vocab).ids, ["3cosadd"])[
        "3cosadd"
    ]


def time_format(
    format: VectorFormat, vocab: Vocabulary, vectors: np.ndarray, folder: Path
) -> dict[str, float]:
    """Seconds of each step, and the size of the file."""
    path, times = folder / f"vectors{SUFFIXES[format]}", [time.perf_counter()]
    write_vectors(path, vocab, vectors, format)
    times.append(time.perf_counter())
    if format is VectorFormat.gensim:
        keyed = KeyedVectors.load(str(path))
    else:
        keyed = KeyedVectors.load_word2vec_format(str(path), binary=format is VectorFormat.binary)
    times.append(time.perf_counter())
    assert keyed.index_to_key == vocab.words and keyed.vectors.tobytes() == vectors.tobytes()
    back = folder / "back"
    is_binary = format is not VectorFormat.text
    began = time.perf_counter()
    keyed.save_word2vec_format(str(back), binary=is_binary)
    times += [times[-1] + time.perf_counter() - began]
    began = time.perf_counter()
    vocab_back, vectors_back = read_vectors(back)
    times += [times[-1] + time.perf_counter() - began]
    same = float((answers(vocab, vectors) == answers(vocab_back, vectors_back)).float().mean())
    assert same == 1, f"{100 * same} % of the answers agree"
    names = ("we write", "gensim reads", "gensim writes", "we read")
    return dict(zip(names, np.diff(times).tolist(), strict=True)) | {
        "MiB": path.stat().st_size / 2**20
    }


def time_folder(
    format: VectorFormat, vocab: Vocabulary, vectors: np.ndarray, folder: Path
) -> dict[str, float]:
    """Seconds of each step, and the size of the files."""
    path, began = folder / "vectors", time.perf_counter()
    if format is VectorFormat.hub:
        write_hub(path, vocab, vectors, {}, "")
    else:
        write_projector(path, vocab, vectors, {})
    written = time.perf_counter()
    vocab_back, vectors_back = read_file_or_folder(path)
    read = time.perf_counter()
    assert vocab_back.words == vocab.words and vectors_back.tobytes() == vectors.tobytes()
    size = sum(file.stat().st_size for file in path.iterdir())
    return {"we write": written - began, "we read": read - written, "MiB": size / 2**20}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--words", type=int, default=70_000)
    parser.add_argument("--columns", type=int, default=300)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    vocab, vectors = make(args.words, args.columns)
    right = float(answers(vocab, vectors).float().mean())
    print(
        f"{len(vocab):,} words, {args.columns} columns; {100 * right:.1f} % of the questions "
        "answered, in gensim's copies too"
    )
    result = {}
    for format in VectorFormat:
        with tempfile.TemporaryDirectory() as folder:
            measure = time_format if format in SUFFIXES else time_folder
            result[format.value] = row = measure(format, vocab, vectors, Path(folder))
        print(
            f"{format.value:10}"
            + "".join(
                f"{name} {value:6.1f} {'' if name == 'MiB' else 's'}  "
                for name, value in row.items()
            )
        )
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
