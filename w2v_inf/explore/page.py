"""Stage `explore`: one self-contained explore.html from finished runs.

Decisions:
- The page opens from the disk and asks for nothing: Bokeh, its figures, our script and the data
  are in the file. A content security policy forbids requests.
- Arrays and Bokeh's script are deflated and in base64. The browser inflates them
  (DecompressionStream, in browsers since 2023).
- One run is open at a time: tables of limits are large.
"""

import json
import logging
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from w2v_inf.config import Config
from w2v_inf.corpus.vocabulary import Vocabulary
from w2v_inf.errors import UserError
from w2v_inf.evaluation.analogy import load_questions
from w2v_inf.explore.choose import choose_runs, choose_words, notes_on
from w2v_inf.explore.model_data import (
    GroupWords,
    ModelData,
    align,
    describe_model,
    group_words,
    pack,
)
from w2v_inf.reporting.findings import Table
from w2v_inf.reporting.html import write_page
from w2v_inf.reporting.style import style
from w2v_inf.runs.folder import GROUP_HISTORY, VOCABULARY
from w2v_inf.runs.results import (
    Run,
    by_model,
    find_runs,
    folders_to_read,
    mean_std,
    shared_folder,
)
from w2v_inf.runs.weights import load_vocabulary

log = logging.getLogger(__name__)
PAGE = "explore.html"
FACTOR_BYTES, OTHER_BYTES = 3_100_000, 210_000
"""Of all models together, before base64, which adds a third; and what each model has besides."""
SCRIPTS = ("codec.js", "words.js", "maps.js", "tables.js", "print.js", "main.js")
EXAMPLES = (
    ("man", "king", "woman"),
    ("france", "paris", "italy"),
    ("texas", "houston", "illinois"),
    ("walking", "walked", "swimming"),
    ("car", "cars", "dog"),
)
"""Analogies that the page offers, as far as it has their words."""
FIRST_WORDS = ("france", "king", "texas")
"""The word that is selected when the page opens: the first that is shown."""


def explore(config: Config) -> Path:
    """Write explore.html from the runs in `plot.runs` into `plot.out`; prints its path.

    The default of `plot.out` is the folder that holds the runs.
    Raises: UserError without Bokeh, without runs, or if the file cannot be written.
    """
    check_bokeh()
    folders = folders_to_read(config)
    out = Path(config.plot.out) if config.plot.out else shared_folder(folders)
    path = write_explorer(find_runs(folders), out / PAGE, config)
    print(path)
    return path


def has_bokeh() -> bool:
    """Whether the optional package is installed."""
    return find_spec("bokeh") is not None


def check_bokeh() -> None:
    """Raises: UserError without Bokeh."""
    if not has_bokeh():
        raise UserError("w2v-inf explore needs the package bokeh: pip install 'w2v_inf[explore]'")


def write_explorer(runs: list[Run], path: Path, config: Config) -> Path:
    """Write the page of `runs` to `path`.

    Args:
      config: `explore.words`, and the device on which the models are opened.
    Cost: per model one [N, N] table of cosines in float32 for the N shown words, twice.
    """
    chosen = choose_runs(runs)
    vocabularies = [load_vocabulary(run.folder / VOCABULARY) for run in chosen]
    words = choose_words(vocabularies, config.explore.words)
    groups = group_words(words.shown)
    questions = load_questions(_vocabulary(words.shown)).ids.numpy()
    num_learned = max(1, sum(run.model.kind != "ntk_limit" for run in chosen))
    budget = FACTOR_BYTES // num_learned - OTHER_BYTES
    models = [describe_model(run, words.shown, groups, questions, budget, config) for run in chosen]
    align(models)
    related = [run for run in runs if run.group in {own.group for own in chosen}]
    _write(path, chosen, related, words.shown, groups, models, notes_on(chosen, words))
    return path


def _vocabulary(words: list[str]) -> Vocabulary:
    """The shown words as a vocabulary; nobody asks for its counts."""
    return Vocabulary(words, np.zeros(len(words), np.int64))


def _write(
    path: Path,
    chosen: list[Run],
    related: list[Run],
    words: list[str],
    groups: list[GroupWords],
    models: list[ModelData],
    notes: list[str],
) -> None:
    from bokeh.embed import components
    from bokeh.resources import Resources

    from w2v_inf.explore.figures import LOOKS, curve_figures, map_figures

    maps, curves = map_figures([model.axis for model in models]), curve_figures(related)
    script, divs = components((*maps, *curves), wrap_script=False)
    shown_groups = [group for group in groups if group.is_shown]
    data = {
        "words": words,
        "models": [model.as_json() for model in models],
        "groups": [group.as_json([m.groups[group.name] for m in models]) for group in shown_groups],
        "first": next((w for w in FIRST_WORDS if w in words), words[0]),
    }
    missing = [group.name for group in groups if not group.is_shown]
    write_page(
        path,
        "explore",
        models=models,
        seeds=[run.seed for run in chosen],
        groups=shown_groups,
        looks=LOOKS,
        num_words=len(words),
        vocab_sizes=sorted({run.summary.vocab_size for run in chosen}),
        notes=[*notes, *_missing_notes(missing, models)],
        examples=[e for e in EXAMPLES if set(e) <= set(words)],
        separations=_separation_table(shown_groups, models),
        curve_models=_curve_models(related),
        results=_result_table(related),
        map_divs=[Markup(div) for div in divs[: len(maps)]],
        curves=[(p.name, Markup(div)) for p, div in zip(curves, divs[len(maps) :], strict=True)],
        figures=Markup(script.replace("</", "<\\/")),
        bokeh=pack(_bokeh_script(Resources)),
        data=Markup(json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")),
        css=Markup(_static("page.css")),
        script=Markup("\n".join(_static(name) for name in SCRIPTS)),
    )


def _bokeh_script(resources: Any) -> bytes:
    return "\n".join(resources(mode="inline", components=["bokeh"]).js_raw).encode()


def _static(name: str) -> str:
    return files("w2v_inf.explore").joinpath("static", name).read_text(encoding="utf-8")


def _missing_notes(missing: list[str], models: list[ModelData]) -> list[str]:
    """A line for runs without a history, and one for groups without words."""
    without = [model.label for model in models if not model.has_history]
    notes = []
    if without:
        notes.append(
            f"No slider for {', '.join(without)}: the run folder has no {GROUP_HISTORY}, "
            "which w2v-inf train writes after each epoch."
        )
    if missing:
        notes.append(f"Left out, for lack of words in these vocabularies: {', '.join(missing)}.")
    return notes


def _separation_table(groups: list[GroupWords], models: list[ModelData]) -> Table:
    """A row per group: its silhouette on each model's map, before training and at the end."""
    rows = [
        [group.name, *(model.groups[group.name].separation for model in models)] for group in groups
    ]
    return [["group", *(model.label for model in models)], *rows]


def _curve_models(runs: list[Run]) -> list[dict[str, Any]]:
    """What the toggles of the curves show: label, colour and dashes of each model's line."""
    from w2v_inf.explore.figures import line_look

    models = by_model(runs)
    return [
        {"label": model.label, "num_seeds": len(seeds), **line_look(style(model, models))}
        for model, seeds in models.items()
    ]


def _result_table(runs: list[Run]) -> Table:
    """The last point of each model's curves: means over seeds."""
    rows = []
    for model, seeds in by_model(runs).items():
        accuracy = mean_std(run.accuracy() for run in seeds)
        loss = mean_std(run.number("loss_nats") for run in seeds)
        listed = ", ".join(str(run.seed) for run in seeds)
        solved = f"{accuracy.mean:.1f}" if accuracy.n else "–"
        rows.append([model.label, listed, solved, f"{loss.mean:.3f}"])
    return [["model", "seeds", "analogies (%)", "loss (nats)"], *rows]
