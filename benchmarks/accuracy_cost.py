"""What do batches and shared negatives cost in accuracy, beside single positions and gensim?

A variant is B:G:S, or gensim. B: positions per step; G: positions that share a draw of negatives;
S: shared negatives. 1:1:- updates after every position with its own K negatives. After S may stand
- text: batches of consecutive positions (stream.interleave=1);
- iN: positions from N distant places (stream.interleave=N); default: all of them distant;
- whole: context words get the whole gradient;
- word2vec: the rule of word2vec.c and gensim: whole gradient, no weight decay, u from uniform
  +-1/(2n);
- bfloat16: the limit (--width 0) in 16 bits.
All variants of a seed have one stream of words and windows. Prints mean +- deviation over seeds of
the analogy accuracy, the last epoch's loss, the cosine-Gram distance to the first variant of the
same seed (of the first variant itself: to its next seed), and CPU seconds on one thread.
Checked first: one step of every variant equals that of the reference implementation.
"""

import argparse
import json
import math
import re
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peers import gensim_model, train_gensim

from w2v_inf.config import (
    Architecture,
    Config,
    ContextGradient,
    CorpusConfig,
    Parametrization,
    Sample,
    StreamConfig,
    TextFile,
    TrainConfig,
)
from w2v_inf.corpus.load import EncodedCorpus, open_corpus, select_vocabulary
from w2v_inf.corpus.prepare import prepare
from w2v_inf.corpus.vocabulary import Vocabulary
from w2v_inf.evaluation.analogy import analogy_accuracy, load_questions
from w2v_inf.evaluation.limit_distance import COMMONEST, limit_distance
from w2v_inf.evaluation.similarity import cosine_table
from w2v_inf.models.cpu.threads import training_threads
from w2v_inf.models.linear import LinearModel, init_finite, init_mup_limit
from w2v_inf.models.parametrization import ABC
from w2v_inf.models.step import UpdateRule
from w2v_inf.reference import updates as reference
from w2v_inf.stream import Stream
from w2v_inf.training.train import BATCHES_AT_ONCE

VARIANTS = {
    Architecture.cbow: (
        "1:1:-",
        "16:16:32",
        "32:32:32",
        "64:64:32",
        "64:64:64",
        "128:128:64",
        "256:256:64",
    ),
    Architecture.skipgram: ("1:1:-", "4:4:32", "8:8:32", "16:16:32", "16:16:64"),
}

PLACES = re.compile(r"text|i\d+")

Result = tuple[dict[str, float], torch.Tensor]


def config_of(options: CorpusConfig, architecture: Architecture, variant: str) -> Config:
    if variant == "gensim":
        return Config(corpus=options, stream=StreamConfig(architecture=architecture))
    batch, group, shared, *more = variant.split(":")
    places = [1 if word == "text" else int(word[1:]) for word in more if PLACES.fullmatch(word)]
    rule = ":".join(word for word in more if not PLACES.fullmatch(word))
    if rule not in ("", "whole", "word2vec", "bfloat16"):
        allowed = "text or iN, then whole, word2vec or bfloat16"
        raise SystemExit(f"--variants: after B:G:S come {allowed}, got {variant}")
    stream = StreamConfig(
        architecture=architecture,
        batch_size=int(batch),
        interleave=places[0] if places else None,
        group_size=int(group),
    )
    if shared != "-":
        stream.shared_negatives = int(shared)
    train = TrainConfig(
        context_gradient=ContextGradient.whole
        if rule in ("whole", "word2vec")
        else ContextGradient.divided
    )
    if rule == "word2vec":
        train.weight_decay = 0.0
    return Config(corpus=options, stream=stream, train=train)


def build_stream(
    corpus: EncodedCorpus, vocab: Vocabulary, config: Config, epochs: int, seed: int
) -> Stream:
    return Stream(
        corpus.tokens, corpus.documents, vocab.counts, config.stream, epochs, config.train.lr, seed
    )


def model_of(
    vocab_size: int, width: int, seed: int, dtype: torch.dtype = torch.float32
) -> LinearModel:
    if width == 0:
        return init_mup_limit(vocab_size, 0.0, dtype)
    return init_finite(
        vocab_size, width, ABC[Parametrization.mup], 0.0, torch.Generator().manual_seed(seed), dtype
    )


def rule_of(model: LinearModel, options: TrainConfig) -> UpdateRule:
    """The model's learning rates with the options' decay and context gradient."""
    return replace(
        model.rule, weight_decay=options.weight_decay, context_gradient=options.context_gradient
    )


def check(stream: Stream, vocab_size: int, options: TrainConfig) -> None:
    """A step in float64 by the variant's rule against the reference, on the first batch."""
    batch = next(iter(stream.epoch(0)))
    model = model_of(vocab_size, 3, 0, torch.float64)
    model.w.copy_(model.u.flip(0))  # at w = 0 the gradient of u would not show
    model.rule = rule = rule_of(model, options)
    arrays = (
        batch.context,
        batch.target,
        batch.negatives,
        batch.negatives_row,
        batch.negative_weight,
        batch.lr,
    )
    u, w = model.u.numpy().copy(), model.w.numpy().copy()
    u, w, loss = reference.linear_update(
        u, w, *arrays, rule.weight_decay, whole=rule.whole_gradient
    )
    assert abs(model.update(batch) - loss) < 1e-9 * loss
    np.testing.assert_allclose(model.u, u, atol=1e-12)
    np.testing.assert_allclose(model.w, w, atol=1e-12)


def run(
    corpus: EncodedCorpus,
    vocab: Vocabulary,
    variant: str,
    config: Config,
    width: int,
    epochs: int,
    seed: int,
) -> Result:
    """Train one network.

    Returns: accuracy in percent, the last epoch's loss in nats (nan for gensim) and CPU seconds;
      cosines of common words.
    """
    commonest = torch.arange(min(COMMONEST, len(vocab)))
    start, loss = time.process_time(), math.nan
    if variant == "gensim":
        peer = gensim_model(vocab, config, width, seed)
        train_gensim(peer, corpus, vocab, epochs)
        u = torch.from_numpy(peer.wv[vocab.words])
        model = LinearModel(u, u)
    else:
        dtype = torch.bfloat16 if variant.endswith(":bfloat16") else torch.float32
        model = model_of(len(vocab), width, seed, dtype)
        if variant.endswith(":word2vec"):
            model.u.uniform_(
                -0.5 / width, 0.5 / width, generator=torch.Generator().manual_seed(seed)
            )
        model.rule = rule_of(model, config.train)
        loss = train(model, build_stream(corpus, vocab, config, epochs, seed))
    cpu_s = time.process_time() - start
    accuracy = analogy_accuracy(model, load_questions(vocab), ("3cosadd",))["3cosadd"]["total"][
        "accuracy"
    ]
    return {"accuracy": accuracy, "loss": loss, "cpu_s": cpu_s}, cosine_table(
        model, commonest, commonest
    )


def train(model: LinearModel, stream: Stream) -> float:
    """All epochs; returns the last one's loss in nats per example."""
    total = examples = 0.0
    for epoch in range(stream.epochs):
        batches, total, examples = stream.epoch(epoch), 0.0, 0
        while some := list(islice(batches, BATCHES_AT_ONCE)):
            sizes = [len(batch.target) for batch in some]
            total += float(np.dot(model.train_batches(some), sizes))
            examples += sum(sizes)
    return total / examples


@training_threads(1)
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--text", help="a text file, one document a line; default: the sample corpus"
    )
    parser.add_argument("--max-vocab", type=int, default=3000)
    parser.add_argument("--width", type=int, default=256, help="columns; 0: the dense limit")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--architecture", choices=[a.value for a in Architecture], default="cbow")
    parser.add_argument(
        "--variants",
        nargs="*",
        help="B:G:S[:text|:iN][:whole|:word2vec|:bfloat16] or gensim; S - for K own negatives",
    )
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)

    architecture = Architecture(args.architecture)
    options = (
        TextFile(path=args.text, max_vocab=args.max_vocab)
        if args.text
        else Sample(max_vocab=args.max_vocab)
    )
    corpus = open_corpus(prepare(options, Path(Config(corpus=options).data_dir)))
    vocab = select_vocabulary(corpus, options)
    width = f"width {args.width or 'infinite'}"
    print(
        f"{architecture.value}, V={len(vocab):,}, {width}, {args.epochs} epochs, {args.seeds} seeds"
    )
    rows: dict[str, Any] = {}
    first: list[torch.Tensor] = []
    for variant in args.variants or VARIANTS[architecture]:
        config = config_of(options, architecture, variant)
        if variant != "gensim":
            check(build_stream(corpus, vocab, config, args.epochs, 0), len(vocab), config.train)
        runs = [
            run(corpus, vocab, variant, config, args.width, args.epochs, seed)
            for seed in range(args.seeds)
        ]
        tables = [table for _, table in runs]
        # The first variant is compared with itself under the next seed: the effect of the seed
        # alone.
        others = first or tables[1:] + tables[:1]
        first = first or tables
        measured = [
            row | {"gram_error": limit_distance(a, b)["gram_error"]}
            for (row, a), b in zip(runs, others, strict=True)
        ]
        rows[variant] = measured
        texts = [
            f"{key} {mean_and_deviation([row[key] for row in measured])}"
            for key in ("accuracy", "loss", "gram_error", "cpu_s")
        ]
        print(f"{variant:12} {'   '.join(texts)}", flush=True)
    if args.json:
        args.json.write_text(
            json.dumps({"options": vars(args) | {"json": None}, "runs": rows}, indent=1) + "\n"
        )


def mean_and_deviation(values: list[float]) -> str:
    deviation = f" +- {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{deviation}"


if __name__ == "__main__":
    main()
