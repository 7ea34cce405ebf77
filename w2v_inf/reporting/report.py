"""One self-contained report.html from finished runs: question, findings, figures, tables, how to repeat it.

Decisions:
- Figures are SVG inside data addresses: the file needs nothing beside it, and ids of two figures cannot collide.
- Every number and sentence about results is computed from the runs (`w2v_inf.findings`).
- Everything that comes from a run is escaped: words and options are data, never markup.
"""

import dataclasses
import shlex
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from w2v_inf.compose import quote
from w2v_inf.config import Config
from w2v_inf.errors import UserError
from w2v_inf.files import write_atomically
from w2v_inf.reporting import findings
from w2v_inf.reporting.findings import (
    distance_table,
    headline,
    ntk_loss_sentence,
    protocol_sentence,
    result_table,
)
from w2v_inf.reporting.html import _list, _optional, html_figure, html_page, html_table
from w2v_inf.reporting.plot import draw
from w2v_inf.reporting.style import Drawing
from w2v_inf.runs.results import (
    Run,
    by_model,
    find_runs,
    folders_to_read,
    group_runs,
    group_titles,
    shared_folder,
)

MAX_NEIGHBOURS = 5
LOCAL_OPTIONS = ("run_dir", "runs_dir", "data_dir", "evaluate", "plot", "reproduce")
"""Where things lie on the machine of the run, and options of other stages: not part of what was trained."""
ALWAYS_SAID = ("model.width", "train.epochs")
"""Options that a command to repeat a run names even at their defaults: the reader looks for them."""
CORPORA_INFO = {
    "text8": "The first 100 MB of cleaned English Wikipedia text of 2006, by Matt Mahoney (mattmahoney.net/dc/textdata).",
    "fil9": "English Wikipedia of 2006 (enwik9), cleaned by the rules of wikifil.pl (mattmahoney.net/dc/textdata).",
    "wikipedia": "Articles of Wikipedia from the data set wikimedia/wikipedia.",
    "sample": "The English Wikipedia extract that gensim ships: real text, about 510 thousand words.",
    "planted": "SYNTHETIC text, generated from a known table of relations. What it shows is the mechanism, not English.",
    "file": "A text file of the user's own.",
}
THEORY = """
<p><strong>The question.</strong> Word2vec is a linear network with one hidden layer: a one-hot word in, an embedding of width <i>n</i>,
a logit a word out. What becomes of its training as <i>n</i> grows without bound, and is wider better?</p>
<p><strong>What the theory says</strong> (Yang and Hu, <i>Feature Learning in Infinite-Width Neural Networks</i>, Tensor Programs IV,
arXiv 2011.14522). How the initial variances and step sizes scale with width, the parametrization, decides which limit there is. In the
<strong>NTK limit</strong> the embeddings never move: any two words stay orthogonal, only the read-out learns, and analogies are at chance.
In the maximal update parametrization (<strong>muP</strong>) embeddings move by an amount of order one at every width, and training
converges to a limit that learns features. The theory proves that the limits exist and which of them learns features. That wider muP nets
do better, and the limit best, is an observation: it is checked below.</p>
"""
LIMITS = (
    "All gradients of a batch are taken at the values before it; the authors' program updates position by position. "
    "The two agree to first order in the step size.",
    "Positions of a group (stream.group_size) share their negatives (stream.shared_negatives), weighted to K in all: the expected gradient "
    "is that of K negatives for each, as the authors draw them (and as stream.group_size=1 does here).",
    "All models of a section saw the same options; the step size was not tuned for each width.",
    "Accuracy counts only questions whose four words are in the vocabulary, so numbers at different vocabularies cannot be compared.",
    "In the NTK limit all candidates of a question tie up to rounding; a tie counts as a miss, so its accuracy is 0 rather than chance.",
    "A spread over seeds is given where there are several seeds; differences called noise or not resolved should not be read as effects.",
)
LICENCE = (
    "Text from Wikipedia (corpora text8, fil9, wikipedia, sample) is by Wikipedia's contributors, under the licence Creative Commons "
    "Attribution-ShareAlike (CC BY-SA, creativecommons.org/licenses/by-sa/4.0; older dumps also under the GFDL). "
    "Nearest neighbours and word lists shown here derive from it."
)


def report(config: Config) -> Path:
    """Stage 5: report.html from the runs in `plot.runs` into `plot.out` (default: the folder that holds the runs); prints its path."""
    folders = folders_to_read(config)
    out = Path(config.plot.out) if config.plot.out else shared_folder(folders)
    path = write_report(find_runs(folders), out / "report.html")
    print(path)
    return path


def write_report(
    runs: list[Run], out_html: str | Path, corpora_info: Mapping[str, str] = CORPORA_INFO
) -> Path:
    """Write the report of `runs`, a section for each group that may be compared, and return its path.

    Args:
      corpora_info: where the text of each corpus comes from, by its name.
    Raises: UserError without runs, or if the file cannot be written.
    """
    if not runs:
        raise UserError("plot.runs holds no finished run: a report needs at least one")
    groups = group_runs(runs)
    titles = group_titles(groups)
    parts = [
        _section(titles[group], own, _source(own[0], corpora_info)) for group, own in groups.items()
    ]
    summary = "".join(
        f"<h3>{escape(titles[g])}</h3>{_synthetic(own)}{_list(headline(own))}"
        for g, own in groups.items()
    )
    body = [
        "<h1>Infinite-width limits of word2vec</h1>",
        THEORY,
        f"<h2>Result</h2><div class=headline>{summary}</div>",
        _paper(),
        *parts,
        f"<h2>Limits of what is shown</h2>{_list(LIMITS)}",
        f"<h2>Licence</h2><p>{escape(LICENCE)}</p>",
    ]
    page, path = html_page("Infinite-width limits of word2vec", "\n".join(body)), Path(out_html)
    write_atomically(path, lambda draft: draft.write_text(page, encoding="utf-8"))
    return path


def _section(title: str, runs: list[Run], source: str) -> str:
    parts = [
        f"<h2>{escape(title)}</h2>",
        _synthetic(runs),
        f"<p>{escape(source)}</p>" if source else "",
        f"<h3>Results</h3>{html_table(result_table(runs, findings.QUALITY), 'numbers')}<p>{escape(_result_note(runs))}</p>",
        f"<h3>Loss and cost</h3>{html_table(result_table(runs, findings.COST), 'numbers')}<p>{escape(_cost_note(runs))}</p>",
        *(html_figure(drawing) for drawing in _drawings(runs)),
        _optional(
            "Distance to the limit", html_table(distance_table(runs), "numbers"), DISTANCE_NOTE
        ),
        _optional(
            "Nearest neighbours",
            html_table(neighbour_table(runs), "text"),
            f"The {MAX_NEIGHBOURS} nearest by cosine; one run each.",
        ),
        f"<h3>How to repeat it</h3><pre>{escape(chr(10).join(repeat_commands(runs)))}</pre>",
        f"<h3>Evaluation protocol</h3>{html_table(_facts(run.summary['evaluation'].get('protocol') or {} for run in runs), 'text')}",
        f"<h3>Environment</h3>{html_table(_facts(run.environment for run in runs), 'text')}",
        f"<h3>Options</h3>{_options(runs)}",
    ]
    return "\n".join(part for part in parts if part)


def _source(run: Run, corpora_info: Mapping[str, str]) -> str:
    """Where the text comes from and its licence; a user's own file goes by its name, its kind is `file`."""
    known, licence = corpora_info.get(run.config.corpus.name, ""), run.summary.get("licence")
    return " ".join(
        part for part in (known, f"Licence of the text: {licence}." if licence else "") if part
    )


COST_NOTE = "Loss: mean of the last epoch, nats per example. Time and memory are those of training on the machine under Environment."
DISTANCE_NOTE = (
    "Cosine-Gram error: relative size of the difference between the model's cosines of word pairs and those of the limit's run. "
    "Neighbour overlap: share of nearest neighbours in common with it."
)


def _result_note(runs: list[Run]) -> str:
    paper = (
        " Paper: TP4's values, CBOW on text8 with V = 71,291."
        if findings.comparable_with_paper(runs)
        else ""
    )
    similarity = "WordSim-353 and SimLex-999: Spearman correlation with human scores."
    return f"{protocol_sentence(runs)}. {similarity}{paper}"


def _cost_note(runs: list[Run]) -> str:
    return " ".join([COST_NOTE, *ntk_loss_sentence(runs)])


def _synthetic(runs: list[Run]) -> str:
    return (
        "<p class=synthetic>SYNTHETIC corpus: generated text, not English.</p>"
        if runs[0].summary.get("synthetic")
        else ""
    )


def _paper() -> str:
    table = [
        ["model", "analogies (%)"],
        *([label, f"{value:.2f}"] for label, value in findings.PAPER_TEXT8.items()),
    ]
    return f"<h3>The paper's values</h3><p>TP4, CBOW on text8, V = 71,291, 3CosAdd:</p>{html_table(table, 'numbers')}"


def _drawings(runs: list[Run]) -> list[Drawing]:
    try:
        return draw(runs)
    except UserError:
        return []  # draw has said in the log why


def neighbour_table(runs: list[Run]) -> list[list[str]]:
    """Header and a row a word: its nearest neighbours in each model (lowest seed); empty if none were saved."""
    first = {
        model.label: own[0].summary["evaluation"].get("neighbours") or {}
        for model, own in by_model(runs).items()
    }
    words = list(dict.fromkeys(word for table in first.values() for word in table))
    rows = [
        [word, *(_neighbours(table.get(word, [])) for table in first.values())] for word in words
    ]
    return [["word", *first], *rows] if rows else []


def _neighbours(pairs: list[list[Any]]) -> str:
    """As text; where all tie, as in the NTK limit, their order means nothing and is not shown."""
    if len(pairs) > 1 and len({cosine for _, cosine in pairs}) == 1:
        return f"all tie at {pairs[0][1]:.2f}"
    return ", ".join(f"{word} {cosine:.2f}" for word, cosine in pairs[:MAX_NEIGHBOURS]) or "–"


def _facts(tables: Iterable[Mapping[str, Any]]) -> list[list[str]]:
    """Header and a row a key, with the values that the runs have for it."""
    values: dict[str, list[str]] = {}
    for table in tables:
        for key, value in table.items():
            known = values.setdefault(key, [])
            if str(value) not in known:
                known.append(str(value))
    return [["item", "value"], *([key, "; ".join(known)] for key, known in values.items())]


def _options(runs: list[Run]) -> str:
    parts = []
    for model, own in by_model(runs).items():
        options = OmegaConf.structured(own[0].config)
        text = OmegaConf.to_yaml(
            OmegaConf.masked_copy(options, [key for key in options if key not in LOCAL_OPTIONS])
        )
        parts.append(
            f"<details><summary>{escape(model.label)}</summary><pre>{escape(text)}</pre></details>"
        )
    return "".join(parts)


def repeat_commands(runs: list[Run]) -> list[str]:
    """The shell commands that train these runs again: options that differ from their defaults."""
    commands = [
        f"python scripts/prepare.py {corpus}"
        for corpus in dict.fromkeys(" ".join(_corpus_options(run)) for run in runs)
    ]
    for own in by_model(runs).values():
        commands += [
            " ".join(["python scripts/train.py", *_corpus_options(run), *_training_options(run)])
            for run in own
        ]
    return commands


def _corpus_options(run: Run) -> list[str]:
    return _chosen("corpus", run.config.corpus)


def _training_options(run: Run) -> list[str]:
    config = run.config
    groups = [
        *_chosen("model", config.model),
        *_changed("stream.", config.stream),
        *_changed("train.", config.train),
    ]
    embedding = _changed("evaluate.", config.evaluate, ("embedding",))
    return [
        *groups,
        *embedding,
        *_changed("", config, ("device", "num_threads")),
        f"seed={run.seed}",
    ]


def _chosen(group: str, member: Any) -> list[str]:
    """`group=name` and the options of that member that differ from its defaults."""
    return [f"{group}={member.name}", *_changed(f"{group}.", member)]


def _changed(prefix: str, options: Any, names: Iterable[str] = ()) -> list[str]:
    """The options of a dataclass, or those of `names`, that differ from their defaults."""
    # By field: a member need not be valid with all its defaults (corpus=file has no default path).
    fields = [field for field in dataclasses.fields(options) if not names or field.name in names]
    defaults = {
        field.name: field.default_factory() if callable(field.default_factory) else field.default
        for field in fields
    }
    values = {name: getattr(options, name) for name in defaults}
    return [
        shlex.quote(f"{prefix}{k}={quote(v)}")
        for k, v in values.items()
        if prefix + k in ALWAYS_SAID or v != defaults[k]
    ]
