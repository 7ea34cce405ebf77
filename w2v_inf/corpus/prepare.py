"""Stage 1: any corpus becomes a folder of int32 tokens and a readable vocabulary.

Decisions:
- The folder is `data_dir/NAME-HASH`. The hash covers the identity of the source, its cleaning rules
  and the format of the folder. So a folder that exists is the right one, and is only checked.
- With phrases it is `data_dir/NAME-phrasesPASSES-HASH`, and the hash covers their options too. It
  is made from the folder without phrases.
- Sources yield clean text, one document per line. The encoder does not know where it comes from.
"""

import hashlib
import logging
from pathlib import Path
from typing import Any

import numpy as np

from w2v_inf import distributed
from w2v_inf.config import Config, CorpusConfig
from w2v_inf.corpus.encode import encode as encode_text
from w2v_inf.corpus.encoded_folder import FORMAT_VERSION, Origin
from w2v_inf.corpus.load import EncodedCorpus, check_tokens, open_corpus, select_vocabulary
from w2v_inf.corpus.sources import Source, describe
from w2v_inf.corpus.vocabulary import Vocabulary

log = logging.getLogger(__name__)


def prepare(corpus: CorpusConfig, data_dir: Path) -> Path:
    """Encode a corpus unless it is cached; returns its folder, for `open_corpus`.

    Several processes may do so at once: each may do the work, and one folder results.

    Raises: CorpusUnavailable if the corpus cannot be downloaded; UserError for bad input or a
      damaged cache.
    """
    source = describe(corpus, data_dir)
    origin = source.origin
    plain = data_dir / f"{origin.name}-{_fingerprint(origin)}"
    if not corpus.phrases:
        return _prepare_plain(source, plain)
    from w2v_inf.corpus.phrases import PhraseRule, encode_phrases  # compiles

    rule = PhraseRule(corpus.phrases, corpus.phrase_threshold, corpus.phrase_min_count)
    hash_ = _fingerprint(origin, rule.identity)
    folder = data_dir / f"{origin.name}-phrases{corpus.phrases}-{hash_}"
    if not folder.exists():
        encoded = open_corpus(_prepare_plain(source, plain))
        log.info("joining phrases of %s into %s", origin.source, folder)
        encode_phrases(encoded, folder, rule)
    open_corpus(folder)
    return folder


def _prepare_plain(source: Source, folder: Path) -> Path:
    if not folder.exists():
        log.info("encoding %s into %s", source.origin.source, folder)
        encode_text(source.read(), folder, source.origin)
    open_corpus(folder)
    return folder


def _fingerprint(origin: Origin, *more: str) -> str:
    parts = (origin.source_sha256, origin.cleaning, str(FORMAT_VERSION), *more)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def prepare_stage(config: Config) -> None:
    """Prepare `config.corpus` in `config.data_dir` and print its size and its folder."""
    corpus = open_corpus(prepare(config.corpus, Path(config.data_dir)))
    vocab = select_vocabulary(corpus, config.corpus)
    kept = int(np.sum(vocab.counts))
    limit = f", max_vocab {config.corpus.max_vocab:,}" if config.corpus.max_vocab else ""
    rows = {
        "corpus": corpus.info["name"] + (" (synthetic)" if corpus.info.get("synthetic") else ""),
        "tokens": f"{len(corpus.tokens):,}",
        **_phrase_rows(corpus.info.get("phrases")),
        "documents": f"{len(corpus.documents) - 1:,}",
        "types": f"{len(corpus.vocab):,}",
        "vocabulary": f"{len(vocab):,} (min_count {config.corpus.min_count}{limit})",
        "tokens in vocabulary": f"{kept:,} ({100 * kept / len(corpus.tokens):.1f} %)",
        "folder": str(corpus.folder),
    }
    print("\n".join(f"{name:22}{value}" for name, value in rows.items()))


def _phrase_rows(phrases: dict[str, Any] | None) -> dict[str, str]:
    if phrases is None:
        return {}
    passes = f"{phrases['passes']} pass{'es' if phrases['passes'] > 1 else ''}"
    rule = f"{passes}, threshold {phrases['threshold']:g}, min_count {phrases['min_count']}"
    found = f"{phrases['num_types']:,} distinct, {phrases['num_tokens']:,} tokens ({rule})"
    top = ", ".join(f"{word} {count:,}" for word, count in phrases["most_frequent"])
    return {"phrases": found, "frequent phrases": top or "none"}


def load_corpus(config: Config) -> tuple[EncodedCorpus, Vocabulary]:
    """The encoded corpus, prepared first if need be, and the vocabulary that its options keep.

    Every byte is checked. In a job of several processes the main process prepares.

    Raises: as `prepare`; UserError also if fewer than two words are left.
    """
    folder = distributed.broadcast(lambda: prepare(config.corpus, Path(config.data_dir)))
    corpus = open_corpus(folder)
    check_tokens(corpus)
    return corpus, select_vocabulary(corpus, config.corpus)
