"""Read an encoded corpus.

Decisions:
- Opening checks the size of the tokens and the checksums of the other files, which takes no time.
- `check_tokens` reads all tokens, once before training. An edited id would train another text, or
  read memory outside the model.
- Tokens are a read-only memory map, so a corpus larger than memory can be trained on.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from w2v_inf.config import CorpusConfig
from w2v_inf.corpus.encoded_folder import FORMAT_VERSION
from w2v_inf.corpus.vocabulary import Vocabulary
from w2v_inf.errors import UserError
from w2v_inf.files import sha256
from w2v_inf.system_errors import raise_if_refused

_FIELDS = ("name", "num_tokens", "tokens_sha256", "documents_sha256", "vocab_sha256")


@dataclass
class EncodedCorpus:
    """A corpus as `encode` wrote it.

    Args:
      tokens: word ids in the order of the text, [T], int32, memory-mapped, read-only.
      documents: the token at which each document starts, [documents + 1], int64; the last is T.
      vocab: all words of the text; `corpus.min_count` is not applied.
      info: the content of corpus.json.
    """

    folder: Path
    tokens: np.memmap
    documents: np.ndarray
    vocab: Vocabulary
    info: dict[str, Any]


def open_corpus(folder: Path) -> EncodedCorpus:
    """Open an encoded corpus.

    Raises: UserError that names a file that is missing, cut short or does not fit the others.
    """
    info = _read_info(folder)
    tokens_path, num_tokens = folder / "tokens.bin", info["num_tokens"]
    size = tokens_path.stat().st_size if tokens_path.is_file() else 0
    if size != 4 * num_tokens:
        raise _damaged(tokens_path, f"must have {4 * num_tokens:,} bytes, has {size:,}")
    for name, checksum in (("documents.npy", "documents_sha256"), ("vocab.tsv", "vocab_sha256")):
        _check_sha256(folder / name, info[checksum])
    documents = np.load(folder / "documents.npy", allow_pickle=False)
    vocab = Vocabulary.load(folder / "vocab.tsv")
    tokens = np.memmap(tokens_path, np.dtype("<i4"), mode="r", shape=(num_tokens,))
    return EncodedCorpus(folder, tokens, documents, vocab, info)


def check_tokens(corpus: EncodedCorpus) -> None:
    """Read all tokens and compare their checksum.

    Raises: UserError if a token has changed. Cost: 0.06 s per 100 MB, or the time of the disk.
    """
    _check_sha256(corpus.folder / "tokens.bin", corpus.info["tokens_sha256"])


def select_vocabulary(corpus: EncodedCorpus, config: CorpusConfig) -> Vocabulary:
    """The words that `corpus.min_count` and `corpus.max_vocab` keep, V of them: ids 0 to V - 1.

    Raises: UserError if fewer than two words are left.
    """
    vocab = corpus.vocab.truncate(config.min_count, config.max_vocab)
    if len(vocab) < 2:
        left = f"{len(vocab)} word{'' if len(vocab) == 1 else 's'} of {len(corpus.vocab):,}"
        given = f"corpus.min_count={config.min_count}"
        raise UserError(f"{given} leaves {left}, at least 2 are needed: lower it")
    return vocab


def _read_info(folder: Path) -> dict[str, Any]:
    path = folder / "corpus.json"
    try:
        info = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise_if_refused(path, error)
        raise _damaged(path, "cannot be read") from error
    if not isinstance(info, dict) or any(field not in info for field in _FIELDS):
        raise _damaged(path, f"must give {', '.join(_FIELDS)}")
    if info.get("format_version") != FORMAT_VERSION:
        found = info.get("format_version")
        raise _damaged(path, f"must have format_version {FORMAT_VERSION}, has {found}")
    return info


def _check_sha256(path: Path, expected: str) -> None:
    try:
        found = sha256(path)
    except OSError as error:
        raise_if_refused(path, error)
        raise _damaged(path, f"cannot be read ({error.strerror})") from error
    if found != expected:
        raise _damaged(path, f"must have sha256 {expected[:12]}..., has {found[:12]}...")


def _damaged(path: Path, reason: str) -> UserError:
    advice = f"delete the folder {path.parent} and prepare the corpus again"
    return UserError(f"{path} {reason}: {advice}")
