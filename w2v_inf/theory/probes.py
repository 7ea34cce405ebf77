r"""Pretraining and transfer: what a linear probe finds in frozen embeddings

**Tasks.** Both are logistic regressions on embeddings that are no longer trained. The first asks
whether a word is a city, a state, a country or something else. The second asks in which relation a
pair stands (the sections of questions-words), from the difference $b - a$ of its words.

**Prediction.** An L2 penalty keeps the probe's weights in the span of its training points. So the
probe uses nothing of a new word $x$ but the inner products $\langle x, x_j \rangle$ with the known
words $x_j$.
- NTK limit: embeddings stay orthogonal, so all of these are 0. Every new word of a fold gets the
  intercept's answer, and balanced accuracy is one over the number of classes, as before training.
  (It is exactly that if all folds give the same answer.) The same holds for pairs whose words were
  not seen: pairs that are linked through words stay in one fold.
- A finite ntp network is $O(n^{-1/2})$ from that, as a random initialisation is.
- muP: embeddings move by order one at every width, and cosines differ from the limit's by
  $n^{-1/2}$. The accuracy converges to the limit's.

That the accuracy rises with width is measured, not derived. A narrow network has to share its $n$
directions among everything the text teaches.
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
from w2v_inf.reporting.style import PURPLE, TEAL, TEXT_WIDTH, Drawing, new_axes
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
"""Where the words of a class stand: section of questions-words, first (0) or second (1) word."""
SAME_RELATION = {"capital-common-countries": "capital-world"}
MIN_PAIRS, MAX_VOCAB = 15, 8000
PLANTED_TRAINING = TrainConfig(epochs=4, lr=0.2)
"""As conf/experiment/planted.yaml."""
WIDTHS, SEEDS, NTP_WIDTH = (8, 16, 64, 256), 3, 256
INVERSE_PENALTY = 10.0
"""Of the regression, for embeddings of length 1; 1 and 100 give the same (records/LOG.md)."""
FOLDS, RESAMPLES = 5, 2000


class Task(NamedTuple):
    """Words to classify, or pairs of words by their difference."""

    name: str
    ids: np.ndarray
    """Word ids, [N, 1], or pairs a, b, [N, 2]."""
    labels: np.ndarray
    """Class of each item, [N]."""
    clusters: np.ndarray
    """Items that share a word have the same number, [N]."""

    @property
    def chance(self) -> float:
        """Balanced accuracy of a guess, percent."""
        return 100 / len(np.unique(self.labels))


def word_task(vocab: Vocabulary) -> Task:
    """Cities, states, countries and all other question words.

    A word of two classes (georgia) is left out.
    """
    pairs = _pairs()
    members = {
        kind: {pair[column] for section, column in places for pair in pairs[section]}
        for kind, places in COLUMNS.items()
    }
    words = {word for section in pairs.values() for pair in section for word in pair}
    ids, labels = [], []
    for word in sorted(words & vocab.id_of.keys()):
        kinds = [kind for kind, own_words in members.items() if word in own_words] or [OTHER]
        if len(kinds) == 1:
            ids.append([vocab.id_of[word]])
            labels.append(CLASSES.index(kinds[0]))
    name = "city, state, country, other"
    return Task(name, np.array(ids, int).reshape(-1, 1), np.array(labels, int), np.arange(len(ids)))


def relation_task(vocab: Vocabulary) -> Task:
    """Pairs of each relation with at least `MIN_PAIRS` of them in the vocabulary.

    The two sections of capitals are one relation.
    """
    by_relation: dict[str, set[tuple[int, int]]] = {}
    for section, pairs in _pairs().items():
        known = {
            (vocab.id_of[a], vocab.id_of[b])
            for a, b in pairs
            if a in vocab.id_of and b in vocab.id_of
        }
        by_relation.setdefault(SAME_RELATION.get(section, section), set()).update(known)
    kept = [sorted(pairs) for pairs in by_relation.values() if len(pairs) >= MIN_PAIRS]
    ids = np.array([pair for pairs in kept for pair in pairs], int).reshape(-1, 2)
    labels = np.repeat(np.arange(len(kept)), [len(pairs) for pairs in kept])
    links = coo_array((np.ones(len(ids)), tuple(ids.T)), shape=(len(vocab), len(vocab)))
    clusters = connected_components(links, directed=False)[1][ids[:, 0]]
    return Task("relation of a pair", ids, labels, clusters)


def _pairs() -> dict[str, set[tuple[str, str]]]:
    """The pairs (a, b) and (c, d) of each section's questions."""
    return {
        name: {(q[i], q[i + 1]) for q in questions for i in (0, 2)}
        for name, questions in read_questions()
    }


def features(model: Model, task: Task) -> np.ndarray:
    """Coordinates with the inner products of the task's unit embeddings or differences, [N, rank].

    Cost: one Gram block of the task's words and its eigenvectors.
    """
    words, local = np.unique(task.ids, return_inverse=True)
    ids = torch.from_numpy(words)
    gram = cosine_table(model, ids, ids).double().cpu().numpy()  # [W, W]
    values, vectors = np.linalg.eigh((gram + gram.T) / 2)
    kept = values > 1e-6 * values.max()  # float32 leaves about this much of zero
    points = vectors[:, kept] * np.sqrt(values[kept])  # [W, rank]
    items = points[local.reshape(task.ids.shape)]  # [N, 1 or 2, rank]
    return items[:, 0] if items.shape[1] == 1 else items[:, 1] - items[:, 0]


def is_correct(x: np.ndarray, task: Task, seed: int = 0) -> np.ndarray:
    """Whether a probe trained on the other folds classifies each item correctly, [N].

    Clusters are never split.
    """
    # Imported here: scikit-learn takes a second to import.
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

    # Newton's method converges and is ten times faster here than the default.
    probe = LogisticRegression(C=INVERSE_PENALTY, class_weight="balanced", solver="newton-cg")
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    return cross_val_predict(probe, x, task.labels, cv=folds, groups=task.clusters) == task.labels


def balanced_accuracy(correct: np.ndarray, task: Task) -> Estimate:
    """Percent, the mean over classes of the share of correct items.

    The interval comes from resampling clusters. It is that of words like these for these models;
    if all items are correct it has no width.

    Args:
      correct: [N], as `is_correct` returns it, or a mean over seeds.
    """
    _, cluster = np.unique(task.clusters, return_inverse=True)
    num = cluster.max() + 1
    generator = np.random.default_rng(0)
    times = generator.multinomial(num, np.full(num, 1 / num), RESAMPLES)[:, cluster]  # [R, N]
    low, high = np.nanpercentile(_balanced(times, correct, task.labels), [2.5, 97.5])
    mean = _balanced(np.ones((1, len(correct))), correct, task.labels)[0]
    return Estimate(float(mean), float(low), float(high))


def _balanced(times: np.ndarray, correct: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Balanced accuracy with items counted as in each row of `times`, percent, [R].

    A class that a row lacks does not count.
    """
    kinds = np.arange(labels.max() + 1) == labels[:, None]  # [N, classes]
    with np.errstate(invalid="ignore"):
        return 100 * np.nanmean((times * correct) @ kinds / (times @ kinds), axis=1)


def training_options(config: Config) -> Config:
    """`config` with the default training on at most `MAX_VOCAB` words.

    The planted corpus replaces `sample`, whose half a million words are too few to learn where
    cities lie (the limit's probe finds 40 % of each class).
    """
    if isinstance(config.corpus, Sample | Planted):
        return replace(config, corpus=Planted(), stream=StreamConfig(), train=PLANTED_TRAINING)
    max_vocab = min(config.corpus.max_vocab or MAX_VOCAB, MAX_VOCAB)
    corpus = replace(config.corpus, max_vocab=max_vocab)
    return replace(config, corpus=corpus, stream=StreamConfig(), train=TrainConfig())


def check_tasks(tasks: Sequence[Task], corpus: str) -> None:
    """Refuse tasks that cannot be cross-validated.

    Raises: UserError if a task has fewer than two classes, or a class fewer clusters than folds.
    """
    for task in tasks:
        clusters = [
            len(np.unique(task.clusters[task.labels == label])) for label in np.unique(task.labels)
        ]
        if len(clusters) < 2 or min(clusters) < FOLDS:
            raise UserError(
                f"corpus={corpus} knows too few question words to probe ({task.name}): "
                "take a longer text, or corpus=planted"
            )


def probed_models(widths: Sequence[int] = WIDTHS) -> list[tuple[str, ModelConfig, bool]]:
    """(name, model, whether it is trained), as the figure lists them."""
    return [
        (f"untrained, {NTP_WIDTH}", Finite(width=NTP_WIDTH), False),
        ("NTK limit", NtkLimit(), True),
        (f"ntp {NTP_WIDTH}", Finite(width=NTP_WIDTH, parametrization=Parametrization.ntp), True),
        *((f"muP {width:,}", Finite(width=width), True) for width in widths),
        ("muP limit", MupLimit(), True),
    ]


def show(config: Config) -> Exhibit:
    """Balanced accuracy of both probes: before training, in both limits and at widths between."""
    options = training_options(config)
    vocab = load_corpus(options)[1]
    tasks = words, pairs = word_task(vocab), relation_task(vocab)
    check_tasks(tasks, corpus_label(options))
    rows = [
        ["", *(f"{task.name} (%)" for task in tasks)],
        ["chance", *(f"{task.chance:.1f}" for task in tasks)],
    ]
    accuracies: dict[str, list[Estimate]] = {}
    for name, model, trained in probed_models():
        accuracies[name] = _probe(replace(options, model=model), trained, tasks)
        rows.append([name, *(f"{value:.1f}" for value in accuracies[name])])
    figure, panels = new_axes(TEXT_WIDTH, 4.4, 2)
    by_task = zip(*accuracies.values(), strict=True)
    for axes, task, values, colour in zip(panels, tasks, by_task, (PURPLE, TEAL), strict=True):
        _draw(axes, task, list(accuracies), values, colour)
    training = f"{corpus_label(options)}, V = {len(vocab):,}, CBOW, {options.train.epochs} epochs"
    caption = (
        f"Balanced accuracy of linear probes on frozen embeddings ({training}). Dotted: chance. "
        f"Bars: 95 % intervals. Finite networks: mean of {SEEDS} seeds."
    )
    notes = [
        f"The probe is a logistic regression with {FOLDS} folds.",
        f"First panel: {len(words.ids)} words of {len(np.unique(words.labels))} classes; "
        "intervals over words.",
        f"Second: {len(pairs.ids)} pairs of {pairs.labels.max() + 1} relations by the "
        "difference of their embeddings. No word of a pair is in training; intervals over groups "
        "that share words.",
    ]
    return Exhibit(Drawing("probes", "Linear probes", figure, caption), rows, notes)


def _probe(config: Config, trained: bool, tasks: Sequence[Task]) -> list[Estimate]:
    """Balanced accuracy on each task; finite networks are averaged over seeds."""
    seeds = range(SEEDS if isinstance(config.model, Finite) else 1)
    models = [train_on(replace(config, seed=seed), trained) for seed in seeds]
    return [
        balanced_accuracy(
            np.mean([is_correct(features(model, task), task) for model in models], axis=0), task
        )
        for task in tasks
    ]


def _draw(
    axes: Axes, task: Task, names: list[str], accuracies: Sequence[Estimate], colour: str
) -> None:
    mean, low, high = np.array(accuracies).T
    bars = [mean - low, high - mean]
    axes.errorbar(range(len(names)), mean, bars, fmt="o", color=colour, capsize=3)
    axes.axhline(task.chance, color="0.4", linestyle=":", linewidth=0.9)
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set(ylim=(0, 103), ylabel="balanced accuracy (%)", title=task.name)
