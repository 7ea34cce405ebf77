"""Pretraining and transfer: what a linear probe finds in frozen embeddings

Two tasks, each a logistic regression on embeddings that are no longer trained: is this word a city, a state, a country or something
else, and which relation does this pair stand in, asked of the difference b - a of its words (the sections of questions-words).

Prediction. An L2 penalty keeps the probe's weights in the span of what it was trained on, so it asks a new word x for nothing but the
inner products <x, x_j> with the words x_j it knows. In the NTK limit embeddings stay orthogonal: all of these are 0, and every new word
of a fold gets one answer, the intercept's: balanced accuracy is 1 / classes (to the letter if all folds give the same answer), that of
embeddings before training. So is a pair's, if none of its words was seen: pairs that are linked through words stay in one fold. A finite
ntp net is O(n^-1/2) from that, as a random start is. Under muP embeddings move by order one at every width, and cosines differ from the
limit's by n^-1/2: the score converges to the limit's. That it rises on the way is what is measured, not derived: a narrow net has to
share its n directions among all that the text teaches.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from w2v_inf.config import (
    Config,
    Finite,
    ModelConfig,
    MupLimit,
    NtkLimit,
    Parametrization,
    Planted,
    Sample,
    StreamConfig,
    TrainConfig,
)
from w2v_inf.corpus.prepare import load_corpus
from w2v_inf.corpus.vocabulary import Vocabulary
from w2v_inf.errors import UserError
from w2v_inf.evaluation.analogy import read_questions
from w2v_inf.evaluation.similarity import cosine_table
from w2v_inf.models.protocol import Model
from w2v_inf.reporting.style import Drawing, new_axes
from w2v_inf.runs.folder import corpus_label
from w2v_inf.theory.data import train_on
from w2v_inf.theory.exhibit import Estimate, Exhibit

CITY, STATE, COUNTRY, OTHER = CLASSES = ("city", "state", "country", "other")
COLUMNS = {
    CITY: (("city-in-state", 0), ("capital-world", 0), ("capital-common-countries", 0)),
    STATE: (("city-in-state", 1),),
    COUNTRY: (
        ("capital-world", 1),
        ("capital-common-countries", 1),
        ("gram6-nationality-adjective", 0),
    ),
}
"""Where the words of a class stand: section of questions-words, and first (0) or second word of its pairs."""
SAME_RELATION = {"capital-common-countries": "capital-world"}
FEWEST, MAX_VOCAB = 15, 8000
PLANTED_TRAINING = TrainConfig(epochs=4, lr=0.2)
"""As conf/experiment/planted.yaml."""
WIDTHS, SEEDS, NTP_WIDTH = (8, 16, 64, 256), 3, 256
INVERSE_PENALTY, FOLDS, RESAMPLES = 10.0, 5, 2000
"""INVERSE_PENALTY: of the regression, for embeddings of length 1; 1 and 100 change nothing that shows (records/LOG.md)."""
COLOURS = ("#443a83", "#21908d")


class Task(NamedTuple):
    """What a probe is to tell apart: words, or pairs of words by their difference."""

    name: str
    ids: np.ndarray
    """Word ids, [N, 1], or pairs a, b, [N, 2]."""
    labels: np.ndarray
    """Class of each, [N]."""
    clusters: np.ndarray
    """Items that share a word have one number, [N]."""

    @property
    def chance(self) -> float:
        return 100 / len(np.unique(self.labels))


def word_task(vocab: Vocabulary) -> Task:
    """Cities, states, countries and all other question words; a word of two classes (georgia) is left out."""
    pairs = _pairs()
    members = {
        kind: {pair[column] for section, column in places for pair in pairs[section]}
        for kind, places in COLUMNS.items()
    }
    ids, labels = [], []
    for word in sorted(
        {word for section in pairs.values() for pair in section for word in pair}
        & vocab.id_of.keys()
    ):
        kinds = [kind for kind, words in members.items() if word in words] or [OTHER]
        if len(kinds) == 1:
            ids.append([vocab.id_of[word]])
            labels.append(CLASSES.index(kinds[0]))
    return Task(
        "city, state, country, other",
        np.array(ids, int).reshape(-1, 1),
        np.array(labels, int),
        np.arange(len(ids)),
    )


def relation_task(vocab: Vocabulary) -> Task:
    """Pairs of each relation with at least `FEWEST` of them in the vocabulary; the two sections of capitals are one relation."""
    by_relation: dict[str, set[tuple[int, int]]] = {}
    for section, pairs in _pairs().items():
        known = {
            (vocab.id_of[a], vocab.id_of[b])
            for a, b in pairs
            if a in vocab.id_of and b in vocab.id_of
        }
        by_relation.setdefault(SAME_RELATION.get(section, section), set()).update(known)
    kept = [sorted(pairs) for pairs in by_relation.values() if len(pairs) >= FEWEST]
    ids = np.array([pair for pairs in kept for pair in pairs], int).reshape(-1, 2)
    labels = np.repeat(np.arange(len(kept)), [len(pairs) for pairs in kept])
    links = coo_array((np.ones(len(ids)), (ids[:, 0], ids[:, 1])), shape=(len(vocab), len(vocab)))
    return Task(
        "relation of a pair", ids, labels, connected_components(links, directed=False)[1][ids[:, 0]]
    )


def _pairs() -> dict[str, set[tuple[str, str]]]:
    """The pairs (a, b) and (c, d) of each section's questions."""
    return {
        name: {(q[i], q[i + 1]) for q in questions for i in (0, 2)}
        for name, questions in read_questions()
    }


def features(model: Model, task: Task) -> np.ndarray:
    """Coordinates whose inner products are those of the task's embeddings of length 1, or of their differences; [N, rank].

    Cost: one Gram block of the task's words and its eigenvectors.
    """
    words, local = np.unique(task.ids, return_inverse=True)
    ids = torch.from_numpy(words)
    gram = cosine_table(model, ids, ids).double().cpu().numpy()  # [W, W]
    values, vectors = np.linalg.eigh((gram + gram.T) / 2)
    held = values > 1e-6 * values.max()  # what float32 leaves of zero
    points = vectors[:, held] * np.sqrt(values[held])  # [W, rank]
    items = points[local.reshape(task.ids.shape)]  # [N, 1 or 2, rank]
    return items[:, 0] if items.shape[1] == 1 else items[:, 1] - items[:, 0]


def hits(x: np.ndarray, task: Task, seed: int = 0) -> np.ndarray:
    """Whether each item was told right by a probe trained on the other folds, [N]; clusters are never split."""
    # Here and not above: scikit-learn takes a second to import.
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

    # Newton's method: ten times faster here than the default, and converged.
    probe = LogisticRegression(C=INVERSE_PENALTY, class_weight="balanced", solver="newton-cg")
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    return cross_val_predict(probe, x, task.labels, cv=folds, groups=task.clusters) == task.labels


def score(hit: np.ndarray, task: Task) -> Estimate:
    """Balanced accuracy in percent, the mean over classes of the share of each that is found; its interval by drawing clusters anew.

    hit: [N], or means over seeds: the interval is that of words like these, for these nets (where all are hit, no width).
    """
    _, cluster = np.unique(task.clusters, return_inverse=True)
    num = cluster.max() + 1
    generator = np.random.default_rng(0)
    times = generator.multinomial(num, np.full(num, 1 / num), RESAMPLES)[:, cluster]  # [R, N]
    resampled = _balanced(times, hit, task.labels)
    low, high = np.nanpercentile(resampled, [2.5, 97.5])
    return Estimate(
        float(_balanced(np.ones((1, len(hit))), hit, task.labels)[0]), float(low), float(high)
    )


def _balanced(times: np.ndarray, hit: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Percent, for each row of `times` each item is counted, [R]; a class that a row lacks does not count."""
    kinds = np.arange(labels.max() + 1) == labels[:, None]  # [N, classes]
    with np.errstate(invalid="ignore"):
        return 100 * np.nanmean((times * hit) @ kinds / (times @ kinds), axis=1)


def text_with_places(config: Config) -> Config:
    """`config` with the default training on at most `MAX_VOCAB` words; the planted corpus with its own in place of `sample`.

    Half a million words are too few to learn where cities lie (the limit's probe finds 40 % of each class).
    """
    if isinstance(config.corpus, Sample | Planted):
        return replace(config, corpus=Planted(), stream=StreamConfig(), train=PLANTED_TRAINING)
    largest = min(config.corpus.max_vocab or MAX_VOCAB, MAX_VOCAB)
    return replace(
        config,
        corpus=replace(config.corpus, max_vocab=largest),
        stream=StreamConfig(),
        train=TrainConfig(),
    )


def check(tasks: Sequence[Task], corpus: str) -> None:
    """Raises: UserError if a task has fewer than two classes, or a class fewer clusters than there are folds."""
    for task in tasks:
        clusters = [
            len(np.unique(task.clusters[task.labels == label])) for label in np.unique(task.labels)
        ]
        if len(clusters) < 2 or min(clusters) < FOLDS:
            raise UserError(
                f"corpus={corpus} knows too few question words to probe ({task.name}): take a longer text, or corpus=planted"
            )


def probed_models(widths: Sequence[int] = WIDTHS) -> list[tuple[str, ModelConfig, bool]]:
    """(name, model, whether it is trained), as the figure lists them."""
    return [
        (f"start, {NTP_WIDTH}", Finite(width=NTP_WIDTH), False),
        ("NTK limit", NtkLimit(), True),
        (f"ntp {NTP_WIDTH}", Finite(width=NTP_WIDTH, parametrization=Parametrization.ntp), True),
        *((f"muP {width:,}", Finite(width=width), True) for width in widths),
        ("muP limit", MupLimit(), True),
    ]


def show(config: Config) -> Exhibit:
    """Balanced accuracy of both probes for embeddings before training, in both limits and at widths between."""
    own = text_with_places(config)
    vocab = load_corpus(own)[1]
    tasks = (word_task(vocab), relation_task(vocab))
    check(tasks, corpus_label(own))
    names, scores = [], []
    for name, model, trained in probed_models():
        seeds = range(SEEDS if isinstance(model, Finite) else 1)
        nets = [train_on(replace(own, model=model, seed=seed), trained) for seed in seeds]
        names.append(name)
        scores.append(
            [
                score(np.mean([hits(features(net, task), task) for net in nets], axis=0), task)
                for task in tasks
            ]
        )
    figure, panels = new_axes(12.0, 4.4, 2)
    for axes, task, values, colour in zip(
        panels, tasks, zip(*scores, strict=True), COLOURS, strict=True
    ):
        _draw(axes, task, names, values, colour)
    words, pairs = tasks
    caption = (
        f"Probes on frozen embeddings ({corpus_label(own)}, V = {len(vocab):,}, CBOW, {own.train.epochs} epochs; logistic regression, "
        f"{FOLDS} folds). Left: {len(words.ids)} words of {len(np.unique(words.labels))} classes; right: {len(pairs.ids)} pairs of "
        f"{pairs.labels.max() + 1} relations by the difference of their embeddings, no word of a pair in training. Balanced accuracy, "
        f"dotted: chance; bars: 95 % intervals over words (pairs: over groups that share words); finite nets: mean of {SEEDS} seeds."
    )
    rows = [
        ["", f"{words.name} (%)", f"{pairs.name} (%)"],
        ["chance", f"{words.chance:.1f}", f"{pairs.chance:.1f}"],
    ]
    rows += [
        [name, *(f"{value:.1f}" for value in values)]
        for name, values in zip(names, scores, strict=True)
    ]
    return Exhibit(Drawing("probes", "Linear probes", figure, caption), rows)


def _draw(
    axes: Axes, task: Task, names: list[str], scores: Sequence[Estimate], colour: str
) -> None:
    mean, low, high = np.array(scores).T
    axes.errorbar(
        range(len(names)), mean, [mean - low, high - mean], fmt="o", color=colour, capsize=3
    )
    axes.axhline(task.chance, color="0.4", linestyle=":", linewidth=0.9)
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set(ylim=(0, 103), ylabel="balanced accuracy (%)", title=task.name)
