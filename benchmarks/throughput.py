"""How many words a CPU second does each model train on, beside gensim, and what share of the machine is that?

Words are in-vocabulary words before subsampling. One thread; the paper's window, negatives and threshold; the default batches
(B positions share S negatives; every gradient of a batch is taken before it), the stream of examples included. All programs
train on the same words, one after the other, --rounds times: medians and ranges over rounds. FLOP: GEMMs of the negatives,
positives and contexts; bytes: rows read and written (see fused.py); both beside what one thread of this machine reaches in
GEMMs of the same shape and in copies (machine.py).
Checked first: a step of each of our models against the slow twin.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import machine
import numpy as np
import torch
from accuracy_cost import check, model_of
from peers import gensim_model, train_gensim

from w2v_inf.config import Architecture, Config, Sample, StreamConfig, TextFile
from w2v_inf.corpus.load import EncodedCorpus, open_corpus, select_vocabulary
from w2v_inf.corpus.prepare import prepare
from w2v_inf.corpus.vocabulary import Vocabulary
from w2v_inf.models.batch_counts import batch_counts
from w2v_inf.models.cpu.step import TILE
from w2v_inf.models.cpu.threads import training_threads
from w2v_inf.stream import Stream
from w2v_inf.training.train import BATCHES_AT_ONCE

LIMIT = 0
"""Stands for the dense limit in a list of widths."""


def ours(
    corpus: EncodedCorpus, vocab: Vocabulary, config: Config, width: int
) -> Callable[[], object]:
    """One epoch of our training on a model that keeps training."""
    stream = Stream(
        corpus.tokens, corpus.documents, vocab.counts, config.stream, 1, config.train.lr, 0
    )
    check(stream, len(vocab))
    model = model_of(len(vocab), width, 0)
    model.rule = replace(model.rule, weight_decay=config.train.weight_decay)

    def train() -> None:
        batches = stream.epoch(0)
        while some := list(islice(batches, BATCHES_AT_ONCE)):
            model.train_batches(some)

    return train


def gensims(
    corpus: EncodedCorpus, vocab: Vocabulary, config: Config, width: int
) -> Callable[[], object]:
    """One epoch of gensim's training on the same words and vocabulary."""
    model = gensim_model(vocab, config, width)
    return lambda: train_gensim(model, corpus, vocab, 1)


def arithmetic(
    corpus: EncodedCorpus, vocab: Vocabulary, config: Config, columns: int
) -> tuple[float, float]:
    """FLOP and bytes a word, from the counts of the first 100 batches."""
    stream = Stream(
        corpus.tokens, corpus.documents, vocab.counts, config.stream, 1, config.train.lr, 0
    )
    flop = moved = 0.0
    batches = list(islice(stream.epoch(0), 101))
    for batch in batches[:-1]:
        counts = batch_counts(batch)
        contexts = 0 if len(counts.slots) == len(batch.target) else 4 * len(counts.slots)
        flop += columns * (6 * counts.negative_counts.size + contexts + 6 * len(batch.target))
        passes = 3 if columns > TILE else 2
        moved += columns * 4 * passes * (len(counts.inputs) + len(counts.outputs))
    words = batches[-1].words_seen
    return flop / words, moved / words


@training_threads(1)
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--text", help="a text file, one document a line; default: the sample corpus"
    )
    parser.add_argument("--max-vocab", type=int, default=7670)
    parser.add_argument(
        "--tokens", type=int, default=400_000, help="first tokens of the corpus that are trained on"
    )
    parser.add_argument(
        "--widths", type=int, nargs="*", default=[64, 256, 1024, LIMIT], help="0: the dense limit"
    )
    parser.add_argument("--architectures", nargs="*", default=[a.value for a in Architecture])
    parser.add_argument("--shared-negatives", type=int, default=0, help="S; 0: the default")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)

    options = (
        TextFile(path=args.text, max_vocab=args.max_vocab)
        if args.text
        else Sample(max_vocab=args.max_vocab)
    )
    corpus = open_corpus(prepare(options, Path(Config(corpus=options).data_dir)))
    vocab = select_vocabulary(corpus, options)
    corpus, vocab = first_tokens(corpus, vocab, args.tokens)
    words = int(vocab.counts.sum())
    about = machine.describe()
    print(f"{words:,} words, V={len(vocab):,}; {about}")
    rows: list[dict[str, Any]] = []
    for architecture in map(Architecture, args.architectures):
        stream = StreamConfig(architecture=architecture, shared_negatives=args.shared_negatives)
        config = Config(corpus=options, stream=stream)
        for width in args.widths:
            programs = {"ours": ours(corpus, vocab, config, width)}
            if width != LIMIT:
                programs["gensim"] = gensims(corpus, vocab, config, width)
            rates = alternate(programs, words, args.rounds)
            flop, moved = arithmetic(corpus, vocab, config, width or len(vocab))
            rows.append(row_of(architecture, width, rates, flop, moved, about))
            print(line_of(rows[-1]), flush=True)
    if args.json:
        result = {
            "options": vars(args) | {"json": None},
            "machine": about,
            "words": words,
            "vocabulary": len(vocab),
            "rows": rows,
        }
        args.json.write_text(json.dumps(result, indent=1) + "\n")


def first_tokens(
    corpus: EncodedCorpus, vocab: Vocabulary, num_tokens: int
) -> tuple[EncodedCorpus, Vocabulary]:
    """The corpus cut short, and the vocabulary with the counts of what is left (at least 1)."""
    tokens = np.asarray(corpus.tokens[:num_tokens])
    corpus.tokens = tokens
    corpus.documents = np.append(corpus.documents[corpus.documents < len(tokens)], len(tokens))
    counts = np.maximum(1, np.bincount(tokens[tokens < len(vocab)], minlength=len(vocab)))
    return corpus, Vocabulary(vocab.words, counts)


def alternate(
    programs: dict[str, Callable[[], object]], words: int, rounds: int
) -> dict[str, list[float]]:
    """Words per CPU second of each program, once a round after a warm-up round of ours (compilation)."""
    programs["ours"]()
    rates: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(rounds):
        for name, train in programs.items():
            start = time.process_time()
            train()
            rates[name].append(words / (time.process_time() - start))
    return rates


def row_of(
    architecture: Architecture,
    width: int,
    rates: dict[str, list[float]],
    flop: float,
    moved: float,
    about: dict[str, Any],
) -> dict[str, Any]:
    """Medians, ranges and shares of the machine."""
    median = {name: statistics.median(values) for name, values in rates.items()}
    gflops, gbytes = flop * median["ours"] / 1e9, moved * median["ours"] / 1e9
    row = {
        "architecture": architecture.value,
        "width": width or "limit",
        "words_per_cpu_s": median,
        "all": rates,
    }
    row |= {
        "gflops": gflops,
        "gemm_share": gflops / about["gemm_gflops"],
        "gbytes": gbytes,
        "copy_share": gbytes / about["copy_gbytes"],
    }
    return row | ({"times_gensim": median["ours"] / median["gensim"]} if "gensim" in median else {})


def line_of(row: dict[str, Any]) -> str:
    """A row as text."""
    rates = [
        f"{name} {row['words_per_cpu_s'][name] / 1e3:,.1f}k [{min(v) / 1e3:,.1f}-{max(v) / 1e3:,.1f}]"
        for name, v in row["all"].items()
    ]
    ratio = f"  {row['times_gensim']:.1f} x gensim" if "times_gensim" in row else ""
    machine_use = f"{row['gflops']:.0f} GFLOP/s ({row['gemm_share']:.0%} of GEMM), {row['gbytes']:.1f} GB/s ({row['copy_share']:.0%} of copy)"
    return f"{row['architecture']:9} {row['width']:>6}  {'   '.join(rates)} words per CPU second{ratio}   {machine_use}"


if __name__ == "__main__":
    main()
