"""For how long are the rows of the exact limit sparse, so that kernels could skip zeros?

Trains the limit (CBOW). After some numbers of steps it looks at the tiles (one row x 32 columns)
of u and w that the next 100 batches touch, and prints which share of them is all zero.
"""

import argparse
import json
from itertools import islice
from pathlib import Path

import torch

from w2v_inf.config import Config, Sample, StreamConfig, TextFile
from w2v_inf.corpus.load import open_corpus, select_vocabulary
from w2v_inf.corpus.prepare import prepare
from w2v_inf.models.batch_counts import batch_counts
from w2v_inf.models.cpu.threads import training_threads
from w2v_inf.models.linear import LinearModel, init_mup_limit
from w2v_inf.models.step import UpdateRule
from w2v_inf.stream import Batch, Stream
from w2v_inf.training.train import BATCHES_AT_ONCE

TILE, NUM_BATCHES = 32, 100


def share_of_zeros(model: LinearModel, batches: list[Batch]) -> dict[str, float]:
    """Share of all-zero tiles among those that the batches touch, of u and of w."""
    counted = [batch_counts(batch) for batch in batches]
    found = {}
    for name, table, words in (
        ("u", model.u, [c.inputs for c in counted]),
        ("w", model.w, [c.outputs for c in counted]),
    ):
        rows = torch.cat([torch.from_numpy(ids) for ids in words]).long()
        whole = table.shape[1] // TILE * TILE
        zeros = [
            int((table[some, :whole].unflatten(1, (-1, TILE)) == 0).all(2).sum())
            for some in rows.split(256)
        ]
        found[name] = sum(zeros) / (len(rows) * whole // TILE)
    return found


@training_threads(0)
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--text", help="a text file, one document per line; default: the sample corpus"
    )
    parser.add_argument("--max-vocab", type=int, default=4000)
    parser.add_argument("--epochs", type=int, default=15, help="over which the learning rate falls")
    parser.add_argument("--steps", type=int, nargs="*", default=[0, 300, 1000, 3000])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    options = (
        TextFile(path=args.text, max_vocab=args.max_vocab)
        if args.text
        else Sample(max_vocab=args.max_vocab)
    )
    corpus = open_corpus(prepare(options, Path(Config(corpus=options).data_dir)))
    counts = select_vocabulary(corpus, options).counts
    config = Config(corpus=options, stream=StreamConfig())
    stream = Stream(
        corpus.tokens, corpus.documents, counts, config.stream, args.epochs, config.train.lr, 0
    )
    rule = UpdateRule(weight_decay=config.train.weight_decay)
    model = init_mup_limit(len(counts), 0.0, rule=rule)

    rows, batches, taken = [], stream.epoch(0), 0
    for steps in args.steps:
        while taken < steps and (
            some := list(islice(batches, min(BATCHES_AT_ONCE, steps - taken)))
        ):
            model.train_batches(some)
            taken += len(some)
        upcoming = list(islice(batches, NUM_BATCHES))
        row = {
            "steps": taken,
            "epochs": upcoming[0].words_seen / stream.words_per_epoch,
        } | share_of_zeros(model, upcoming)
        rows.append(row)
        after = f"{row['steps']:>7,} steps ({row['epochs']:.4f} epochs)"
        print(
            f"V={len(counts):,}  {after}: zero tiles of u {row['u']:.1%}, w {row['w']:.1%}",
            flush=True,
        )
        model.train_batches(upcoming)
        taken += len(upcoming)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
