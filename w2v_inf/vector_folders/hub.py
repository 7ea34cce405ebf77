"""The folder of export.format=hub, as the Hugging Face hub shows repositories.

| file | content |
|---|---|
| model.safetensors | one tensor `vectors` [V, D], float32; row i belongs to word i |
| vocab.json | `words` and `counts`, [V] each, the commonest first |
| config.json | what the vectors are (`folder.py`, `export/facts.py`) |
| README.md | the model card (`export/card.py`) |

Words are strings of JSON, so any character may be in them, and every language has a reader.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from w2v_inf.config import VectorFormat
from w2v_inf.corpus.vocabulary import Vocabulary
from w2v_inf.vector_folders import folder as folders
from w2v_inf.vector_folders.folder import CARD, TENSORS, WORDS, damaged

TENSOR = "vectors"


def write_hub(
    folder: Path, vocab: Vocabulary, vectors: np.ndarray, facts: dict[str, Any], card: str
) -> None:
    """Write vectors [V, D] with words, facts and a model card; arguments as `folder.write`."""

    def write_files(draft: Path) -> None:
        table = np.ascontiguousarray(vectors, "<f4")
        save_file({TENSOR: table}, draft / TENSORS, {"format": "pt"})  # as transformers writes it
        words = {"words": vocab.words, "counts": vocab.counts.tolist()}
        text = json.dumps(words, ensure_ascii=False, indent=0)
        (draft / WORDS).write_text(text + "\n", encoding="utf-8", newline="\n")
        (draft / CARD).write_text(card, encoding="utf-8", newline="\n")

    folders.write(folder, VectorFormat.hub, vocab, vectors, facts, write_files)


def read_hub(folder: Path, config: dict[str, Any]) -> tuple[Vocabulary, np.ndarray]:
    """Words and vectors [V, D] float32. Raises: UserError for a missing or damaged file."""
    vocab, path = _read_words(folder / WORDS), folder / TENSORS
    folders.check_readable(path)
    try:
        tensors = load_file(path)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise damaged(path, error) from error
    vectors = tensors.get(TENSOR)
    if vectors is None or vectors.dtype != np.float32:
        raise damaged(path, f"no float32 tensor `{TENSOR}`")
    folders.check_whole(folder, config, vocab, vectors)
    return vocab, vectors


def _read_words(path: Path) -> Vocabulary:
    content = folders.read_json(path)
    content = content if isinstance(content, dict) else {}
    words, counts = content.get("words"), content.get("counts")
    if not (isinstance(words, list) and isinstance(counts, list)):
        raise damaged(path, "no lists `words` and `counts`")
    if not all(type(word) is str for word in words) or not all(type(n) is int for n in counts):
        raise damaged(path, "a word is no text, or a count no whole number")
    return folders.make_vocabulary(path, words, counts)
