"""Whether a text gives examples to train on, and what to do if it gives few or none.

Decisions:
- Windows do not leave a document, and documents are lines. So a text with one word per line has no
  example, whatever the options.
- The share of words that subsampling keeps is computed from the probabilities. A warning then names
  the same number for every seed.
"""

import logging

import numpy as np

from w2v_inf import distributed
from w2v_inf.errors import UserError
from w2v_inf.stream import Stream, keep_probability

FEW = 0.05
"""Share of the words kept below which a run is probably not what was meant."""
log = logging.getLogger(__name__)


def check_examples(stream: Stream) -> None:
    """Warn if most of the text gives no example.

    Raises: UserError with the reason if the first epoch has no example at all.
    """
    if next(stream.epoch(0), None) is None:
        raise UserError(_reason(stream))
    if not distributed.is_main_process():
        return
    lengths = np.diff(stream.documents)
    alone, num_words = int(np.count_nonzero(lengths == 1)), int(lengths.sum())
    if 2 * alone > num_words:
        log.warning(
            "%s of %s words stand alone on their line, and give no example (each line is a "
            "document): put the words of a document on one line",
            f"{alone:,}",
            f"{num_words:,}",
        )
    if (kept := _share_kept(stream)) < FEW:
        log.warning("%s", _subsampling(stream, kept))


def _reason(stream: Stream) -> str:
    if np.diff(stream.documents).max() < 2:
        return (
            "the corpus has no two words in one window: each line is a document, and no line has "
            "two words: put the words of a document on one line"
        )
    known = np.asarray(stream.tokens) < len(stream.counts)
    if np.add.reduceat(known, stream.documents[:-1], dtype=np.int64).max() < 2:
        return (
            "the corpus has no two words in one window: no line (each is a document) has two words "
            f"of the vocabulary of {len(stream.counts):,}: lower corpus.min_count, "
            "or put the words of a document on one line"
        )
    reason = _subsampling(stream, _share_kept(stream))
    return f"the corpus has no two words in one window: {reason}, or take a longer text"


def _share_kept(stream: Stream) -> float:
    counts = stream.counts
    p_keep = keep_probability(counts, stream.config.subsample_threshold)
    return float((counts * p_keep).sum() / counts.sum())


def _subsampling(stream: Stream, kept: float) -> str:
    num_words = stream.words_per_epoch
    return (
        f"subsampling keeps {100 * kept:.2g} % of the words, about {kept * num_words:,.0f} of "
        f"{num_words:,} per epoch: raise stream.subsample_threshold "
        f"(now {stream.config.subsample_threshold:g}; 0 keeps all)"
    )
