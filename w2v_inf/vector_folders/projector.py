r"""The folder of export.format=projector, for projector.tensorflow.org and TensorBoard's plugin.

| file | content |
|---|---|
| vectors.tsv | V rows of D numbers, tabs between them, no header |
| metadata.tsv | a header, then V rows `word<TAB>count` |
| projector_config.pbtxt | tells `tensorboard --logdir FOLDER` of the other two |
| config.json | what the vectors are (`folder.py`, `export/facts.py`) |

Decisions:
- Metadata of one column has no header, of several it has one: the projector looks for a tab in the
  first row.
- Both readers split rows at newlines and columns at tabs. These, the carriage return and the
  backslash are written as Python writes them: `\t`, `\n`, `\r` and `\\`.
- Nine digits restore a float32 exactly.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np

from w2v_inf.config import VectorFormat
from w2v_inf.corpus.vocabulary import Vocabulary
from w2v_inf.vector_folders import folder as folders
from w2v_inf.vector_folders.folder import METADATA, PROJECTOR, VECTORS, damaged

HEADER = "word\tcount"
ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
ORIGINALS = {escape: character for character, escape in ESCAPES.items()}
PLUGIN_CONFIG = f"""embeddings {{
  tensor_name: "vectors"
  tensor_path: "{VECTORS}"
  metadata_path: "{METADATA}"
}}
"""


def write_projector(
    folder: Path, vocab: Vocabulary, vectors: np.ndarray, facts: dict[str, Any]
) -> None:
    """Write vectors [V, D] with words and facts; arguments and errors as `folder.write`.

    Cost: at V = 70,000, D = 300, as the text format of word2vec.c.
    """

    def write_files(draft: Path) -> None:
        row_format = "\t".join(["%.9g"] * vectors.shape[1]) + "\n"
        with (draft / VECTORS).open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(row_format % tuple(row.tolist()) for row in vectors)
        with (draft / METADATA).open("w", encoding="utf-8", newline="\n") as file:
            file.write(f"{HEADER}\n")
            for word, count in zip(vocab.words, vocab.counts.tolist(), strict=True):
                file.write(f"{escape(word)}\t{count}\n")
        (draft / PROJECTOR).write_text(PLUGIN_CONFIG)

    folders.write(folder, VectorFormat.projector, vocab, vectors, facts, write_files)


def read_projector(folder: Path, config: dict[str, Any]) -> tuple[Vocabulary, np.ndarray]:
    """Words and vectors [V, D] float32. Raises: UserError for a missing or damaged file."""
    vocab, path = _read_words(folder / METADATA), folder / VECTORS
    folders.check_readable(path)
    if not path.stat().st_size:
        raise damaged(path, "it is empty")
    try:
        vectors = np.loadtxt(
            path, np.float32, comments=None, delimiter="\t", ndmin=2, encoding="utf-8"
        )
    except ValueError as error:
        raise damaged(path, error) from error
    folders.check_whole(folder, config, vocab, vectors)
    return vocab, vectors


def _read_words(path: Path) -> Vocabulary:
    folders.check_readable(path)
    try:
        header, *rows, rest = path.read_bytes().decode().split("\n")
    except ValueError as error:  # not UTF-8, or no newline
        raise damaged(path, error) from error
    if header != HEADER or rest:
        raise damaged(path, f"no header {HEADER!r}, or no newline at the end")
    words, counts = [], []
    for number, row in enumerate(rows, 2):
        word, _, count = row.partition("\t")
        if not (count.isascii() and count.isdecimal() and len(count) < 20):
            raise damaged(path, f"line {number} is not word<TAB>count")
        words.append(unescape(word))
        counts.append(int(count))
    return folders.make_vocabulary(path, words, counts)


def escape(word: str) -> str:
    """The word without tabs, newlines and carriage returns."""
    return re.sub(r"[\\\t\n\r]", lambda found: ESCAPES[found[0]], word)


def unescape(text: str) -> str:
    """The inverse of `escape`."""
    return re.sub(r"\\[\\tnr]", lambda found: ORIGINALS[found[0]], text)
