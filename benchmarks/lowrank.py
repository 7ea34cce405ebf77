"""How far is the low-rank engine from the exact limit, beside random finite widths and the best that its form allows?

Reads finished runs on one stream: --limit, a run of the dense engine, and any others of the same corpus, vocabulary, options and seed
(low-rank runs, finite widths); without them it trains some on the sample corpus, at V = 1,000.
Prints for each, among the 2,000 commonest words: the relative error of the off-diagonal, mean-centred
cosines (and the same among the next 2,000 words, and so on), the share of 10 nearest neighbours in common
(`assess.limit_distance`), analogy accuracy, CPU seconds, peak memory. For each
rank also the floor: the dense result itself cut to its diagonal plus the best matrix of that rank; and what share of the energy of
the learnt part of u, off its diagonal, leading ranks hold.
Checked first: the dense run is at distance 0 from itself.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from w2v_inf.api import compose_config
from w2v_inf.evaluation.limit_distance import COMMONEST, limit_distance
from w2v_inf.evaluation.similarity import cosine_table
from w2v_inf.files import read_json
from w2v_inf.models.cpu.threads import training_threads
from w2v_inf.models.linear import LinearModel
from w2v_inf.runs.weights import open_run
from w2v_inf.training.train import train

ENERGY_RANKS = (16, 64, 256, 1024)


SMALL = ("corpus=sample", "corpus.max_vocab=1000", "train.epochs=3", "num_threads=1")
SMALL_MODELS = (
    ["model=mup_limit"],
    *(["model=mup_limit", "model.engine=lowrank", f"model.rank={rank}"] for rank in (32, 128)),
    *([f"model.width={width}"] for width in (64, 256)),
)


def small_runs(folder: str) -> list[Path]:
    """Train the dense limit, and others beside it, in `folder`."""
    return [train(compose_config(*SMALL, *model, f"runs_dir={folder}")) for model in SMALL_MODELS]


def split(u: Tensor, most: int) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor], float]:
    """Diagonal of u [V, V], the leading `most` singular triples of the rest, and the energy of the rest."""
    diagonal = u.diagonal().clone()
    rest = u - torch.diag(diagonal)
    torch.manual_seed(0)
    left, values, right = torch.svd_lowrank(rest, q=min(most + 64, len(u)), niter=4)
    return diagonal, (left, values, right), float(rest.square().sum())


def cut(diagonal: Tensor, triples: tuple[Tensor, Tensor, Tensor], rank: int, ids: Tensor) -> Tensor:
    """Cosines of `ids` when u is its diagonal plus its best matrix of `rank`."""
    left, values, right = (part[..., :rank] for part in triples)
    u = (left * values)[ids] @ right.T
    u[torch.arange(len(ids)), ids] += diagonal[ids]
    return cosine_table(LinearModel(u, u), torch.arange(len(ids)), torch.arange(len(ids)))


def bands_of(vocab_size: int) -> list[Tensor]:
    """Ids of the 2,000 commonest words, of the next 2,000, and so on, four times at most; all words of a smaller vocabulary."""
    starts = range(0, max(1, vocab_size - COMMONEST + 1), COMMONEST)
    return [torch.arange(start, min(start + COMMONEST, vocab_size)) for start in starts][:4]


def row_of(folder: Path, exact: list[Tensor], bands: list[Tensor]) -> dict[str, Any]:
    """What is said of one run; `exact`: cosines of the dense run within each band."""
    summary = read_json(folder / "summary.json")
    model, _ = open_run(folder, compose_config("device=cpu"))
    report = summary.get("approximation") or {}
    total = summary["evaluation"]["analogy"]["3cosadd"]["total"]
    name = (
        f"low rank {report['rank']:,}"
        if report
        else f"width {summary['width']:,}"
        if summary["width"]
        else "dense"
    )
    row = {
        "run": name,
        "rank": report.get("rank"),
        "accuracy": total["accuracy"],
        "questions": total["questions"],
    }
    row |= {
        key: summary[key]
        for key in (
            "cpu_s",
            "wall_s",
            "peak_rss_bytes",
            "loss_nats",
            "vocab_size",
            "epochs",
            "seed",
        )
    }
    distances = [
        limit_distance(cosine_table(model, ids, ids).double(), there)
        for ids, there in zip(bands, exact, strict=True)
    ]
    return (
        row
        | report
        | distances[0]
        | {"gram_error_by_band": [distance["gram_error"] for distance in distances]}
    )


@training_threads(0)
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="*", type=Path, help="run folders to measure")
    parser.add_argument("--limit", type=Path, help="the dense run that they are compared with")
    parser.add_argument(
        "--floors",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="they take two tables [V, V] more in memory",
    )
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.limit:
        compare(args.limit, args.runs, args.floors, args.json)
    else:
        with tempfile.TemporaryDirectory() as folder:
            limit, *runs = small_runs(folder)
            compare(limit, runs, args.floors, args.json)


def compare(limit: Path, runs: list[Path], with_floors: bool, out: Path | None) -> None:
    """Print the table, and write it as JSON."""
    model, vocab = open_run(limit, compose_config("device=cpu"))
    assert isinstance(model, LinearModel)
    bands = bands_of(len(vocab))
    exact = [cosine_table(model, ids, ids).double() for ids in bands]
    assert limit_distance(exact[0], exact[0])["gram_error"] == 0
    held, floors = {}, {}
    approximations = [
        read_json(folder / "summary.json").get("approximation") or {} for folder in runs
    ]
    ranks = sorted({about["rank"] for about in approximations if "rank" in about})
    if with_floors:
        diagonal, triples, energy = split(model.vectors(slice(None)), max([*ranks, *ENERGY_RANKS]))
        held = {rank: float(triples[1][:rank].square().sum()) / energy for rank in ENERGY_RANKS}
        floors = {
            rank: limit_distance(cut(diagonal, triples, rank, bands[0]).double(), exact[0])
            for rank in ranks
        }
    del model  # there may be room for one of its size
    rows = [row_of(folder, exact, bands) for folder in [limit, *runs]]

    print(f"V={len(vocab):,}, {rows[0]['questions']:,} questions")
    if held:
        print("u off its diagonal: " + ", ".join(f"{e:.1%} in rank {r}" for r, e in held.items()))
    for row in rows:
        found = floors.get(row["rank"])
        floor = (
            f"  floor {found['gram_error']:.4f} / {found['neighbour_overlap']:.3f}" if found else ""
        )
        solved = "no questions" if row["accuracy"] is None else f"analogies {row['accuracy']:.2f} %"
        about = f"{solved}  {row['cpu_s']:,.0f} CPU s  {row['peak_rss_bytes'] / 2**30:.2f} GiB"
        errors = " ".join(f"{error:.4f}" for error in row["gram_error_by_band"])
        print(
            f"{row['run']:16} error {errors}  overlap {row['neighbour_overlap']:.3f}  {about}{floor}"
        )
    if out:
        out.write_text(
            json.dumps({"rows": rows, "floors": floors, "energy": held}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
