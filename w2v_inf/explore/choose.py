"""Which runs and which words the page shows."""

from typing import NamedTuple

from w2v_inf.corpus.vocabulary import Vocabulary
from w2v_inf.errors import UserError
from w2v_inf.evaluation.group_history import GroupHistory
from w2v_inf.runs.results import KINDS, Group, Run, group_runs, group_titles

MAX_MODELS = 3
"""Maps side by side."""


class Words(NamedTuple):
    """The words of the page."""

    shown: list[str]
    """The commonest first, [N]."""
    num_common: int
    """Words that all the vocabularies share."""


def choose_runs(runs: list[Run]) -> list[Run]:
    """At most three runs, in the order of tables.

    Up to three are all shown. Of more, the page takes one NTK limit, the widest muP network and one
    muP limit, each with its lowest seed, on one text and architecture. They come from one
    comparable group as far as it has them.
    Raises: UserError for more runs than three on several texts.
    """
    if len(runs) <= MAX_MODELS:
        return sorted(runs, key=lambda run: (run.model, run.seed))
    texts = {run.group.checksum: run.group.corpus for run in runs}
    if len(texts) > 1:
        raise UserError(
            f"plot.runs holds runs on {len(texts)} texts ({', '.join(sorted(texts.values()))}): "
            "name the folder of one text, or at most three runs"
        )
    groups = group_runs(run for run in runs if run.model.is_compared)
    if not groups:
        raise UserError(
            "plot.runs holds no muP network and no limit, but other models: name at most three runs"
        )
    best = max(groups, key=lambda group: _worth(group, groups[group]))
    same = [group for group in groups if group.architecture == best.architecture]
    near = [run for group in same for run in groups[group]]
    chosen = []
    for kind in KINDS:
        here = [run for run in groups[best] if run.model.kind == kind]
        chosen += _one_of(here or [run for run in near if run.model.kind == kind])
    return chosen


def _worth(group: Group, runs: list[Run]) -> tuple[int, int, int]:
    """How much a group has to show: kinds of models, words, runs."""
    return len({run.model.kind for run in runs}), group.vocab_size, len(runs)


def _one_of(runs: list[Run]) -> list[Run]:
    """The widest, and of those the one computed by default and with the lowest seed."""
    return sorted(runs, key=lambda run: (-run.model.width, run.model.method, run.seed))[:1]


def choose_words(vocabularies: list[Vocabulary], number: int) -> Words:
    """`number` words that all vocabularies share: those of the groups, then the commonest.

    Counts are those of the first vocabulary.
    Raises: UserError if they share fewer than two words.
    """
    known = set.intersection(*(set(vocab.words) for vocab in vocabularies))
    if len(known) < 2:
        raise UserError("the runs in plot.runs share no words: name runs on one text")
    groups = GroupHistory.start(vocabularies[0]).words
    of_groups = {word for words in groups.values() for word in words if word in known}
    common = [word for word in vocabularies[0].words if word in known]
    others = [word for word in common if word not in of_groups]
    kept = of_groups | set(others[: max(0, number - len(of_groups))])
    return Words([word for word in common if word in kept], len(common))


def notes_on(runs: list[Run], words: Words) -> list[str]:
    """What a reader must know before comparing these runs; one sentence each."""
    notes = []
    sizes = sorted({run.summary.vocab_size for run in runs})
    if len(sizes) > 1:
        listed = ", ".join(f"{size:,}" for size in sizes)
        notes.append(
            f"The runs have different vocabularies ({listed} words): "
            f"the page has words that all of them share ({words.num_common:,})."
        )
    titles = list(group_titles(group_runs(runs)).values())
    if len(titles) > 1:
        notes.append(f"The runs were trained differently: {'; '.join(titles)}.")
    if any(run.summary.synthetic for run in runs):
        notes.append("SYNTHETIC corpus: generated text, not English.")
    return notes
