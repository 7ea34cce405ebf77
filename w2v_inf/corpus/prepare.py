"""Stage 1: any corpus becomes a folder of int32 tokens and a readable vocabulary.

Decisions:
- The folder is `data_dir/NAME-HASH`. The hash covers the identity of the source, its cleaning rules
  and the format of the folder. So a folder that exists is the right one, and is only checked.
- Sources yield clean text, one document per line. The encoder does not know where it comes from.
"""

import hashlib
import logging
from pathlib import Path

import numpy as np

from w2v_inf import distributed
from w2v_inf.config import Config, CorpusConfig
from w2v_inf.corpus.encode import encode as encode_text
from w2v_inf.corpus.encoded_folder import FORMAT_VERSION, Origin
from w2v_inf.corpus.load import EncodedCorpus, check_tokens, open_corpus, select_vocabulary
from w2v_inf.corpus.sources import describe
from w2v_inf.corpus.vocabulary import Vocabulary

log = logging.getLogger(__name__)


def prepare(corpus: CorpusConfig, data_dir: Path) -> Path:
    """Encode a corpus unless it is cached; returns its folder, for `open_corpus`.

    Several processes may do so at once: each may do the work, and one folder results.

    Raises: CorpusUnavailable if the corpus cannot be downloaded; UserError for bad input or a
      damaged cache.
    """
    source = describe(corpus, data_dir)
    folder = data_dir / f"{source.origin.name}-{_fingerprint(source.origin)}"
    if not folder.exists():
        log.info("encoding %s into %s", source.origin.source, folder)
        encode_text(source.read(), folder, source.origin)
    open_corpus(folder)
    return folder


def _fingerprint(origin: Origin) -> str:
    text = f"{origin.source_sha256}\0{origin.cleaning}\0{FORMAT_VERSION}"
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def prepare_stage(config: Config) -> None:
    """Prepare `config.corpus` in `config.data_dir` and print its size and its folder."""
    corpus = open_corpus(prepare(config.corpus, Path(config.data_dir)))
    vocab = select_vocabulary(corpus, config.corpus)
    kept = int(np.sum(vocab.counts))
    limit = f", max_vocab {config.corpus.max_vocab:,}" if config.corpus.max_vocab else ""
    rows = {
        "corpus": corpus.info["name"] + (" (synthetic)" if corpus.info.get("synthetic") else ""),
        "tokens": f"{len(corpus.tokens):,}",
        "documents": f"{len(corpus.documents) - 1:,}",
        "types": f"{len(corpus.vocab):,}",
        "vocabulary": f"{len(vocab):,} (min_count {config.corpus.min_count}{limit})",
        "tokens in vocabulary": f"{kept:,} ({100 * kept / len(corpus.tokens):.1f} %)",
        "folder": str(corpus.folder),
    }
    print("\n".join(f"{name:22}{value}" for name, value in rows.items()))


def load_corpus(config: Config) -> tuple[EncodedCorpus, Vocabulary]:
    """The encoded corpus, prepared first if need be, and the vocabulary that its options keep.

    Every byte is checked. In a job of several processes the main process prepares.

    Raises: as `prepare`; UserError also if fewer than two words are left.
    """
    folder = distributed.broadcast(lambda: prepare(config.corpus, Path(config.data_dir)))
    corpus = open_corpus(folder)
    check_tokens(corpus)
    return corpus, select_vocabulary(corpus, config.corpus)
