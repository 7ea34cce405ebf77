"""How fast are vectors at gensim's accuracy?

Trains our network and gensim's Word2Vec in turn on the same words, for each architecture, number of
negatives and width, and --seeds times. Prints mean +- deviation over seeds of the accuracy of all
analogy questions (3CosAdd), CPU seconds, and their ratio. A row counts as equal accuracy if our
mean is at most one of gensim's deviations below gensim's mean.

- ours: experiment=vectors, that is the whole gradient for each context word, the muP start, weight
  decay 1e-3. With --rule word2vec no decay, and u from uniform +-1/(2n), as in gensim.
- gensim: window, subsampling and learning rate as ours; see peers.py.
- The stream of examples is included, compilation is not.
Checked first: a step of ours equals that of the reference implementation.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from itertools import islice, product
from pathlib import Path
from typing import Any

import machine
import numpy as np
import torch
from accuracy_cost import build_stream, check, mean_and_deviation, model_of, rule_of, train
from peers import gensim_model, train_gensim

from w2v_inf.compose import compose_config
from w2v_inf.config import Config
from w2v_inf.corpus.load import EncodedCorpus
from w2v_inf.corpus.prepare import load_corpus
from w2v_inf.corpus.vocabulary import Vocabulary
from w2v_inf.evaluation.analogy import analogy_accuracy, load_questions
from w2v_inf.models.cpu.threads import training_threads
from w2v_inf.models.linear import LinearModel
from w2v_inf.overrides import quote


def config_of(args: argparse.Namespace, architecture: str, num_negatives: int) -> Config:
    """The recipe of experiment=vectors, with the options that the benchmark varies."""
    corpus = ["corpus=file", f"corpus.path={quote(args.text)}"] if args.text else ["corpus=sample"]
    changed = {"stream.architecture": architecture, "stream.num_negatives": num_negatives}
    changed |= {"train.epochs": args.epochs, "corpus.max_vocab": args.max_vocab}
    if args.rule == "word2vec":
        changed["train.weight_decay"] = 0.0
    options = [f"{name}={quote(value)}" for name, value in changed.items()]
    return compose_config("experiment=vectors", *corpus, *options, *args.overrides)


def run_ours(
    corpus: EncodedCorpus, vocab: Vocabulary, config: Config, args: argparse.Namespace, seed: int
) -> tuple[LinearModel, float]:
    """A trained network of `args.width` columns, and its last epoch's loss."""
    model = model_of(len(vocab), args.width, seed)
    if args.rule == "word2vec":
        bound = 0.5 / args.width
        model.u.uniform_(-bound, bound, generator=torch.Generator().manual_seed(seed))
    model.rule = rule_of(model, config.train)
    with training_threads(args.threads):
        loss = train(model, build_stream(corpus, vocab, config, args.epochs, seed))
    return model, loss


def run_gensim(
    corpus: EncodedCorpus, vocab: Vocabulary, config: Config, args: argparse.Namespace, seed: int
) -> tuple[LinearModel, float]:
    """gensim's vectors in place of a network's; it reports no loss that compares."""
    peer = gensim_model(vocab, config, args.width, seed, args.threads)
    train_gensim(peer, corpus, vocab, args.epochs)
    u = torch.from_numpy(peer.wv[vocab.words])
    return LinearModel(u, u), math.nan


PROGRAMS = {"ours": run_ours, "gensim": run_gensim}


def measure(
    corpus: EncodedCorpus, vocab: Vocabulary, config: Config, args: argparse.Namespace
) -> dict[str, list[dict[str, float]]]:
    """Accuracy in percent, loss in nats, CPU and wall seconds of both programs at every seed."""
    questions = load_questions(vocab)
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in PROGRAMS}
    for seed, (name, program) in product(range(args.seeds), PROGRAMS.items()):
        start, wall = time.process_time(), time.perf_counter()
        model, loss = program(corpus, vocab, config, args, seed)
        cpu_s, wall_s = time.process_time() - start, time.perf_counter() - wall
        total = analogy_accuracy(model, questions, ("3cosadd",))["3cosadd"]["total"]
        measured[name].append(
            {"accuracy": total["accuracy"], "loss": loss, "cpu_s": cpu_s, "wall_s": wall_s}
        )
    return measured


def warm_up(
    corpus: EncodedCorpus, vocab: Vocabulary, config: Config, args: argparse.Namespace
) -> None:
    """Check a step, and compile."""
    stream = build_stream(corpus, vocab, config, 1, 0)
    check(stream, len(vocab), config.train)
    model = model_of(len(vocab), args.width, 0)
    with training_threads(args.threads):
        model.train_batches(list(islice(stream.epoch(0), 2)))


def row_of(config: Config, width: int, measured: dict[str, list[dict[str, float]]]) -> dict:
    """Means, the ratio of CPU seconds, and whether the accuracy is equal."""
    ours, gensim = ([row["accuracy"] for row in measured[name]] for name in ("ours", "gensim"))
    spread = float(np.std(gensim, ddof=1)) if len(gensim) > 1 else 0.0
    seconds = {name: np.mean([row["cpu_s"] for row in rows]) for name, rows in measured.items()}
    return {
        "architecture": config.stream.architecture.value,
        "negatives": config.stream.num_negatives,
        "width": width,
        "times_gensim": float(seconds["gensim"] / seconds["ours"]),
        "equal_accuracy": bool(np.mean(ours) >= np.mean(gensim) - spread),
        "runs": measured,
    }


def line_of(row: dict[str, Any]) -> str:
    texts = []
    for name, runs in row["runs"].items():
        accuracy, cpu_s = (
            mean_and_deviation([run[key] for run in runs]) for key in ("accuracy", "cpu_s")
        )
        texts.append(f"{name} {accuracy} %, {cpu_s} CPU s")
    verdict = "equal accuracy" if row["equal_accuracy"] else "NOT at equal accuracy"
    name = f"{row['architecture']:8} K={row['negatives']:<2} width {row['width']:>5}"
    return f"{name}  {'   '.join(texts)}   {row['times_gensim']:.2f} x gensim, {verdict}"


def cases(args: argparse.Namespace) -> Iterator[tuple[Config, int]]:
    for name, negatives, width in product(args.architectures, args.negatives, args.widths):
        yield config_of(args, name, negatives), width


@training_threads(1)
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("overrides", nargs="*", help="options of ours, as stream.interleave=16")
    parser.add_argument("--text", help="a text file; default: the sample corpus")
    parser.add_argument("--max-vocab", type=int, default=0)
    parser.add_argument("--architectures", nargs="*", default=["cbow"])
    parser.add_argument("--negatives", type=int, nargs="*", default=[25])
    parser.add_argument("--widths", type=int, nargs="*", default=[64, 256, 1024])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rule", choices=["vectors", "word2vec"], default="vectors")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)

    config = config_of(args, args.architectures[0], args.negatives[0])
    corpus, vocab = load_corpus(config)
    about = machine.describe()
    print(f"{vocab.counts.sum():,} words, V={len(vocab):,}, {args.epochs} epochs; {about}")
    rows = []
    for config, width in cases(args):
        args.width = width
        warm_up(corpus, vocab, config, args)
        rows.append(row_of(config, width, measure(corpus, vocab, config, args)))
        print(line_of(rows[-1]), flush=True)
        if args.json:  # after each row: a long run may be stopped
            content = {"options": vars(args) | {"json": None}, "machine": about, "rows": rows}
            args.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
