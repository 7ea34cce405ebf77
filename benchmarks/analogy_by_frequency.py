"""Which analogies does a run solve: by section, and by how often their rarest word occurs?

Prints for each finished run folder the accuracy (3CosAdd, all words) of the questions whose rarest
word has a count in a range, and of each section. Runs must share their vocabulary.
Checked first: the ranges together have the questions and hits of the sections together.
"""

import argparse
import json
from itertools import pairwise
from pathlib import Path

import torch

from w2v_inf.compose import compose_config
from w2v_inf.evaluation.analogy import Questions, analogy_hits, load_questions
from w2v_inf.runs.weights import open_run


def by_section(questions: Questions, hits: torch.Tensor) -> dict[str, tuple[int, int]]:
    """Questions and hits of each section."""
    seen = torch.bincount(questions.section, minlength=len(questions.sections)).tolist()
    solved = torch.bincount(questions.section[hits], minlength=len(questions.sections)).tolist()
    return {name: (seen[k], solved[k]) for k, name in enumerate(questions.sections)}


def by_count(
    counts: torch.Tensor, questions: Questions, hits: torch.Tensor, edges: list[int]
) -> dict[str, tuple[int, int]]:
    """Questions and hits by the count of the rarest word; counts: of all words, [V]."""
    rarest = counts[questions.ids].min(1).values  # [Q]
    found = {}
    for low, high in pairwise([0, *edges, int(counts.max()) + 1]):
        inside = (rarest >= low) & (rarest < high)
        found[f"{low:,} to {high - 1:,}"] = int(inside.sum()), int((inside & hits).sum())
    return found


def measure(folder: Path, edges: list[int]) -> tuple[list[str], dict[str, tuple[int, int]]]:
    """The words, and questions and hits of each row, of one run."""
    model, vocab = open_run(folder, compose_config("device=cpu"))
    questions = load_questions(vocab)
    hits = analogy_hits(model, questions.ids, ("3cosadd",), first_form=questions.first_form)
    hits = hits["3cosadd"]
    sections = by_section(questions, hits)
    ranges = by_count(torch.from_numpy(vocab.counts), questions, hits, edges)
    for k in (0, 1):
        assert sum(row[k] for row in sections.values()) == sum(row[k] for row in ranges.values())
    total = {"all": (len(hits), int(hits.sum()))}
    return vocab.words, total | ranges | sections


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+", help="folders of finished runs")
    parser.add_argument("--edges", type=int, nargs="*", default=[20, 50, 200, 1000, 5000])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    tables, words = {}, None
    for folder in args.runs:
        own_words, tables[folder.name] = measure(folder, sorted(args.edges))
        assert words in (None, own_words), f"{folder} has another vocabulary"
        words = own_words
    name_size = max(map(len, next(iter(tables.values()))))
    print(" " * name_size, f"{'questions':>9}", *(f"{name:>14}" for name in tables))
    for row in next(iter(tables.values())):
        seen = [table[row][0] for table in tables.values()][0]
        shares = [100 * table[row][1] / seen if seen else float("nan") for table in tables.values()]
        print(f"{row:{name_size}} {seen:>9,}", *(f"{share:14.1f}" for share in shares))
    if args.json:
        args.json.write_text(json.dumps(tables, indent=1) + "\n")


if __name__ == "__main__":
    main()
