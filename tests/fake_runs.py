"""Run folders as the trainer writes them, with invented numbers: wider is better, the limit best, NTK at zero."""

import json
from pathlib import Path

import numpy as np

CITIES = [f"city{i}" for i in range(12)]
STATES = [f"state{i}" for i in range(7)]
SECTIONS = {"capital-common-countries": 506, "family": 420, "gram1-adjective-to-adverb": 992, "city-in-state": 0}
WORDS_PER_EPOCH = 1000


def true_accuracy(model, width):
    return {"ntk_limit": 0.0, "mup_limit": 44.0}.get(model, 40.0 - 400.0 / (width or 1))


def _counts(accuracy, questions=1918):
    correct = round(accuracy / 100 * questions)
    return {"accuracy": 100 * correct / questions if questions else None, "correct": correct, "questions": questions, "total": 19544}


def _analogy(accuracy):
    sections = {name: _counts(accuracy, questions) for name, questions in SECTIONS.items()}
    return {
        "total": _counts(accuracy),
        "semantic": _counts(accuracy / 2, 926),
        "syntactic": _counts(min(100, accuracy * 1.4), 992),
        "sections": sections,
    }


def make_run(
    folder,
    model="finite",
    width=None,
    seed=0,
    corpus="text8",
    architecture="cbow",
    vocab_size=5000,
    epochs=3,
    lr=0.05,
    parametrization="mup",
    synthetic=False,
    accuracy=None,
    date="2024-01-01T00:00:00",
):
    """Write one run folder and return its path."""
    folder = Path(folder)
    folder.mkdir(parents=True)
    rng = np.random.default_rng([seed, width or 0])
    noise = 0.0 if model != "finite" else float(rng.normal(0, 0.4))
    final = true_accuracy(model, width) + noise if accuracy is None else accuracy
    loss = {"ntk_limit": 5.5, "mup_limit": 4.0}.get(model, 4.0 + 20 / (width or 1)) + 0.01 * noise
    finite = model == "finite"
    options = {"width": width, "parametrization": parametrization, "exponents": []} if finite else {}
    options |= {"engine": "dense"} if model == "mup_limit" else {}
    config = {
        "corpus": {"name": corpus, "min_count": 5, "max_vocab": vocab_size},
        "stream": {"architecture": architecture, "window": 8, "num_negatives": 25, "batch_size": 64},
        "model": {"name": model, "output_init_scale": 0.0, **options},
        "train": {"epochs": epochs, "lr": lr, "weight_decay": 0.001, "sigmoid": "exact"},
        "evaluate": {"embedding": "input"},
        "seed": seed,
        "run_dir": str(folder),
    }
    # JSON is YAML too
    (folder / "config.yaml").write_text(json.dumps(config))
    environment = {
        "commit": "abc1234",
        "dirty": False,
        "python": "3.11",
        "torch": "2.4",
        "cpu": "toy <cpu>",
        "num_threads": 2,
        "device": "cpu",
        "date": date,
    }
    (folder / "environment.json").write_text(json.dumps({**environment, "seed": seed}))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in _metrics(epochs, final, loss, rng)))
    places = _write_places(folder, model, rng)
    summary = {
        "status": "done",
        "model": model,
        "engine": "dense" if model == "mup_limit" else None,
        "parametrization": parametrization if finite else None,
        "width": width,
        "architecture": architecture,
        "corpus": corpus,
        "synthetic": synthetic,
        "vocab_size": vocab_size,
        "tokens": 1200,
        "tokens_in_vocab": WORDS_PER_EPOCH,
        "epochs": epochs,
        "seed": seed,
        "loss_nats": loss,
        "wall_s": 61.0 + seed,
        "cpu_s": 115.0,
        "words_per_s": 123456.0,
        "peak_rss_bytes": 3 * 2**30,
        "device": "cpu",
        "corpus_checksum": f"{corpus}-checksum",
        "limit_distance": {"gram_error": 2.0 / width**0.5, "neighbour_overlap": 1 - 4 / width**0.5} if finite else None,
        "evaluation": {
            "protocol": {"vocabulary": vocab_size, "rule": "3CosAdd, question words excluded"},
            "chance": 0.02,
            "analogy": {"3cosadd": _analogy(final), "3cosmul": _analogy(final * 1.01)},
            "similarity": {
                "wordsim353": {"spearman": final / 60, "pairs": 300, "total": 353},
                "simlex999": {"spearman": final / 120, "pairs": 900, "total": 999},
            },
            "neighbours": {"france": [["paris", 0.81], ["<b>spain</b>", 0.75]], "king": [["queen", 0.7], [places[0], 0.5]]},
        },
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def _metrics(epochs, final, loss, rng):
    lines = []
    for epoch in range(epochs + 1):
        accuracy = final * (1 - 0.5**epoch) / (1 - 0.5**epochs)
        analogy = _analogy(accuracy)
        lines.append({"event": "evaluation", "epoch": epoch, "words_seen": epoch * WORDS_PER_EPOCH, "elapsed_s": epoch, "analogy": analogy})
    num_lines = int(rng.integers(20, 30))
    for step in range(1, num_lines + 1):
        done = step / num_lines
        line = {"event": "progress", "step": step, "epoch": done * epochs, "words_seen": round(done * epochs * WORDS_PER_EPOCH)}
        lines.append(
            {
                **line,
                "loss": loss + 13 * np.exp(-12 * done),
                "lr": 0.05 * (1 - done),
                "words_per_s": 1e5,
                "rss_bytes": 2**30,
                "elapsed_s": step,
            }
        )
    return lines


def _write_places(folder, model, rng):
    words = CITIES + STATES
    is_state = np.array([word in STATES for word in words])
    u = rng.standard_normal((len(words), 32))
    u[:, 0] += np.where(is_state, 6.0, -6.0)
    gram = np.eye(len(words)) if model == "ntk_limit" else u @ u.T
    np.savez(folder / "places.npz", words=np.array(words), is_state=is_state, gram=gram)
    return words


def make_family(root, widths=(64, 256, 1024), seeds=(0, 1, 2), **options):
    """NTK limit, `widths` x `seeds` and the limit, below `root`; returns `root`."""
    for width in widths:
        for seed in seeds:
            make_run(Path(root) / f"finite-{width}-seed{seed}", width=width, seed=seed, **options)
    make_run(Path(root) / "ntk_limit-seed0", model="ntk_limit", **options)
    make_run(Path(root) / "mup_limit-seed0", model="mup_limit", **options)
    return Path(root)
