"""How long do all analogy questions take at the size of text8, and are the answers right?

Embeddings [V, width] and the questions over 905 words are random. Some questions are planted, so
that there are hits: their answer's embedding is b - a + c of unit vectors. A subset is checked
against the reference implementation first. Then both rules are timed together, from embeddings to
hits.

    python benchmarks/evaluation.py [--vocabulary 70000 --width 256 --questions 18000 --threads 2
                                     --repeats 3 --json FILE]
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from w2v_inf.config import Embedding
from w2v_inf.evaluation.analogy import RULES, analogy_hits
from w2v_inf.reference.evaluation import analogy_margin
from w2v_inf.runs.environment import peak_rss_bytes

NUM_WORDS = 905
"""Distinct words of questions-words."""
NUM_PLANTED = 50
NUM_CHECKED = 4
"""Questions checked by the reference, half of them planted; about a second each."""
TARGET_S = 10.0


class Vectors:
    """Explicit embeddings [V, width] with the methods of a model."""

    def __init__(self, u: Tensor) -> None:
        self.u = u

    def gram(self, rows: Tensor, columns: Tensor | None, embedding: Embedding) -> Tensor:
        return self.u[rows] @ (self.u if columns is None else self.u[columns]).T

    def squared_norms(self, embedding: Embedding) -> Tensor:
        return self.u.square().sum(1)


def make_case(num_words: int, width: int, num_questions: int) -> tuple[Tensor, Tensor]:
    """Embeddings [V, width] and questions [Q, 4], the first NUM_PLANTED with a right answer."""
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(num_words, width, generator=generator)
    words = torch.randperm(num_words, generator=generator)[:NUM_WORDS]
    ids = words[torch.randint(NUM_WORDS, (num_questions, 4), generator=generator)]
    ids[:NUM_PLANTED] = words[: 4 * NUM_PLANTED].reshape(NUM_PLANTED, 4)
    a, b, c, answer = ids[:NUM_PLANTED].T
    u[answer] = normalize(u[b]) - normalize(u[a]) + normalize(u[c])
    return u, ids


def check(u: Tensor, ids: Tensor) -> None:
    """Exit with a message if the reference disagrees on a few questions."""
    half = NUM_CHECKED // 2
    subset = torch.cat([ids[:half], ids[-half:]])
    for rule, hits in analogy_hits(Vectors(u), subset).items():
        margins = [
            analogy_margin(u.double().numpy(), question, rule) for question in subset.tolist()
        ]
        if hits.tolist() != [margin > 0 for margin in margins]:
            sys.exit(f"{rule}: hits {hits.tolist()} but the reference has margins {margins}")
    print(f"the reference agrees on {len(subset)} questions x {len(RULES)} rules")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vocabulary", type=int, default=70_000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--questions", type=int, default=18_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    u, ids = make_case(args.vocabulary, args.width, args.questions)
    check(u, ids)
    walls, cpus, hits = [], [], {}
    for _ in range(args.repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        hits = analogy_hits(Vectors(u), ids)
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)

    result = {
        "vocabulary": args.vocabulary,
        "width": args.width,
        "questions": args.questions,
        "threads": args.threads,
        "rules": list(RULES),
        "hits": {rule: int(hit.sum()) for rule, hit in hits.items()},
        "wall_s": statistics.median(walls),
        "cpu_s": statistics.median(cpus),
        "peak_rss_bytes": peak_rss_bytes(),
    }
    print(
        f"{args.questions:,} questions x {len(RULES)} rules, V = {args.vocabulary:,}, "
        f"width {args.width}, {args.threads} threads: "
        f"{result['wall_s']:.2f} s wall, {result['cpu_s']:.2f} s CPU "
        f"(median of {args.repeats}; target {TARGET_S:.0f} s), "
        f"peak {result['peak_rss_bytes'] / 2**30:.2f} GiB, hits {result['hits']}"
    )
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
