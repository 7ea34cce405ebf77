"""Run folders like the trainer's, with invented numbers: wider is better, the muP limit is best."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from w2v_inf import compose
from w2v_inf.config import (
    CORPORA,
    Architecture,
    Config,
    CorpusConfig,
    Finite,
    ModelConfig,
    MupLimit,
    NtkLimit,
    Parametrization,
    StreamConfig,
    TextFile,
    TrainConfig,
)

CITIES = [f"city{i}" for i in range(12)]
STATES = [f"state{i}" for i in range(7)]
SECTIONS = {
    "capital-common-countries": 506,
    "family": 420,
    "gram1-adjective-to-adverb": 992,
    "city-in-state": 0,
}
WORDS_PER_EPOCH = 1000
INITIAL_LOSS = 26 * np.log(2)
"""Loss at zero logits with 25 negatives, nats per example."""


@dataclass
class Invented:
    """The properties of a fake run."""

    model: str = "finite"
    width: int | None = None
    seed: int = 0
    corpus: str = "text8"
    architecture: str = "cbow"
    vocab_size: int = 5000
    epochs: int = 3
    lr: float = 0.05
    parametrization: str = "mup"
    synthetic: bool = False
    accuracy: float | None = None
    """Percent; None invents one."""
    date: str = "2024-01-01T00:00:00"

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng([self.seed, self.width or 0])
        self.noise = float(self.rng.normal(0, 0.4)) if self.model == "finite" else 0.0
        if self.accuracy is None:
            self.accuracy = true_accuracy(self.model, self.width) + self.noise
        self.loss = {"ntk_limit": 17.5, "mup_limit": 4.0}.get(
            self.model, 4.0 + 20 / (self.width or 1)
        ) + 0.01 * self.noise


def true_accuracy(model, width):
    return {"ntk_limit": 0.0, "mup_limit": 44.0}.get(model, 40.0 - 400.0 / (width or 1))


def make_run(folder, **properties: Any) -> Path:
    """Write one run folder with the `properties` of `Invented`, and return its path."""
    run, folder = Invented(**properties), Path(folder)
    folder.mkdir(parents=True)
    compose.save(_config(run, folder), folder / "config.yaml")
    (folder / "environment.json").write_text(json.dumps(_environment(run)))
    (folder / "metrics.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in [*_evaluations(run), *_progress(run)])
    )
    _write_places(folder, run)
    (folder / "summary.json").write_text(
        json.dumps(_summary(run) | {"evaluation": _evaluation(run)})
    )
    return folder


def make_family(root, widths=(64, 256, 1024), seeds=(0, 1, 2), **properties):
    """The NTK limit, `widths` x `seeds` and the muP limit, below `root`; returns `root`."""
    for width in widths:
        for seed in seeds:
            make_run(
                Path(root) / f"finite-{width}-seed{seed}", width=width, seed=seed, **properties
            )
    make_run(Path(root) / "ntk_limit-seed0", model="ntk_limit", **properties)
    make_run(Path(root) / "mup_limit-seed0", model="mup_limit", **properties)
    return Path(root)


def _config(run: Invented, folder: Path) -> Config:
    return Config(
        corpus=_corpus(run),
        stream=StreamConfig(architecture=Architecture(run.architecture)),
        model=_model(run),
        train=TrainConfig(epochs=run.epochs, lr=run.lr),
        seed=run.seed,
        run_dir=str(folder),
    )


def _corpus(run: Invented) -> CorpusConfig:
    if run.corpus == "file":
        return TextFile(path="toy.txt", max_vocab=run.vocab_size)
    kind = next(kind for kind in CORPORA if kind.name == run.corpus)
    return kind(max_vocab=run.vocab_size)


def _model(run: Invented) -> ModelConfig:
    if run.width is None:
        return {"ntk_limit": NtkLimit, "mup_limit": MupLimit, "finite": Finite}[run.model]()
    return Finite(width=run.width, parametrization=Parametrization(run.parametrization))


def _environment(run: Invented) -> dict[str, Any]:
    return {
        "commit": "abc1234",
        "dirty": False,
        "python": "3.11",
        "torch": "2.4",
        "cpu": "toy <cpu>",
        "num_threads": 2,
        "device": "cpu",
        "date": run.date,
        "seed": run.seed,
    }


def _evaluations(run: Invented) -> list[dict[str, Any]]:
    """Lines of metrics.jsonl after each epoch; each epoch halves the distance to the end."""
    lines = []
    for epoch in range(run.epochs + 1):
        analogy = _analogy(run.accuracy * (1 - 0.5**epoch) / (1 - 0.5**run.epochs))
        lines.append(
            {
                "event": "evaluation",
                "epoch": epoch,
                "words_seen": epoch * WORDS_PER_EPOCH,
                "elapsed_s": epoch,
                "analogy": analogy,
            }
        )
    return lines


def _progress(run: Invented) -> list[dict[str, Any]]:
    """Lines of metrics.jsonl, their number random: the loss falls from its initial value."""
    num_lines = int(run.rng.integers(20, 30))
    lines = []
    for step in range(1, num_lines + 1):
        done = step / num_lines
        line = {
            "event": "progress",
            "step": step,
            "epoch": done * run.epochs,
            "words_seen": round(done * run.epochs * WORDS_PER_EPOCH),
        }
        line |= {
            "loss": run.loss + (INITIAL_LOSS - run.loss) * np.exp(-12 * done),
            "lr": run.lr * (1 - done),
        }
        lines.append(line | {"words_per_s": 1e5, "rss_bytes": 2**30, "elapsed_s": step})
    return lines


def _write_places(folder: Path, run: Invented) -> None:
    """Cities and states on two sides; all orthogonal in the NTK limit."""
    words = CITIES + STATES
    is_state = np.array([word in STATES for word in words])
    u = run.rng.standard_normal((len(words), 32))
    u[:, 0] += np.where(is_state, 6.0, -6.0)
    gram = np.eye(len(words)) if run.model == "ntk_limit" else u @ u.T
    np.savez(folder / "places.npz", words=np.array(words), is_state=is_state, gram=gram)


def _summary(run: Invented) -> dict[str, Any]:
    """summary.json without the evaluation."""
    finite = run.model == "finite"
    return {
        "model": run.model,
        "engine": "dense" if run.model == "mup_limit" else None,
        "parametrization": run.parametrization if finite else None,
        "width": run.width,
        "architecture": run.architecture,
        "corpus": run.corpus,
        "synthetic": run.synthetic,
        "vocab_size": run.vocab_size,
        "tokens": 1200,
        "tokens_in_vocab": WORDS_PER_EPOCH,
        "epochs": run.epochs,
        "steps": 40 * run.epochs,
        "examples": WORDS_PER_EPOCH * run.epochs,
        "seed": run.seed,
        "corpus_checksum": f"{run.corpus}-checksum",
        "limit_distance": {
            "gram_error": 2.0 / run.width**0.5,
            "neighbour_overlap": 1 - 4 / run.width**0.5,
        }
        if finite
        else None,
        "loss_nats": run.loss,
        "wall_s": 61.0 + run.seed,
        "cpu_s": 115.0,
        "words_per_s": 123456.0,
        "peak_rss_bytes": 3 * 2**30,
        "device": "cpu",
    }


def _evaluation(run: Invented) -> dict[str, Any]:
    return {
        "protocol": {"vocabulary": run.vocab_size, "rule": "3CosAdd, question words excluded"},
        "chance": 0.02,
        "analogy": {"3cosadd": _analogy(run.accuracy), "3cosmul": _analogy(run.accuracy * 1.01)},
        "pairs_of_pairs": {"searched": run.vocab_size, "3cosadd": _analogy(run.accuracy * 0.9)},
        "similarity": {
            "wordsim353": {"spearman": run.accuracy / 60, "pairs": 300, "total": 353},
            "simlex999": {"spearman": run.accuracy / 120, "pairs": 900, "total": 999},
        },
        "neighbours": {
            "france": [["paris", 0.81], ["<b>spain</b>", 0.75]],
            "king": [["queen", 0.7], [CITIES[0], 0.5]],
        },
    }


def _analogy(accuracy: float) -> dict[str, Any]:
    return {
        "total": _counts(accuracy),
        "semantic": _counts(accuracy / 2, 926),
        "syntactic": _counts(min(100, accuracy * 1.4), 992),
        "sections": {name: _counts(accuracy, questions) for name, questions in SECTIONS.items()},
    }


def _counts(accuracy: float, questions: int = 1918) -> dict[str, Any]:
    correct = round(accuracy / 100 * questions)
    return {
        "accuracy": 100 * correct / questions if questions else None,
        "correct": correct,
        "questions": questions,
        "total": 19544,
    }
