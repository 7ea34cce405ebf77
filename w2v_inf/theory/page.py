"""The theory report: every item's derivation, figure and table in one self-contained page, and the figures as PNG and SVG.

The derivations shown are the modules' own docstrings, so that page and code cannot part.
"""

import logging
import time
from collections.abc import Callable
from html import escape
from pathlib import Path
from types import ModuleType

from w2v_inf.config import Config
from w2v_inf.errors import UserError
from w2v_inf.files import write_atomically
from w2v_inf.models.cpu.threads import training_threads
from w2v_inf.reporting.html import html_figure, html_page, html_table
from w2v_inf.reporting.style import save
from w2v_inf.theory import (
    closed_form,
    convergence,
    coordinates,
    linear_limit,
    lr_transfer,
    ntk,
    overfitting,
    parametrizations,
    pmi,
    probes,
)
from w2v_inf.theory.exhibit import Exhibit

log = logging.getLogger(__name__)
TITLE = "The theory of wide word2vec, checked"
INTRODUCTION = """Each section states a prediction about linear one-hidden-layer nets as their width n grows, derives it in a few lines and
measures it. TP4 is Yang and Hu, Feature Learning in Infinite-Width Neural Networks (Tensor Programs IV, arXiv 2011.14522). Slopes are
exponents of width, fitted on log axes seed by seed; brackets are 95 % intervals."""


def theory(config: Config) -> Path:
    """Measure and draw everything into `plot.out` (default: RUNS_DIR/theory); prints the path of theory.html.

    `corpus` is the text of the items that want real words; an item that cannot do with it says so in its place. Cost: four
    minutes of one core with the default corpus; linear probes on a text of your own take 15 trainings of it.
    """
    with training_threads(config.num_threads):
        return _theory(config)


def _theory(config: Config) -> Path:
    """`theory` on the configured threads."""
    out = Path(config.plot.out) if config.plot.out else Path(config.runs_dir) / "theory"
    items: list[tuple[ModuleType, Callable[[], Exhibit]]] = [
        (linear_limit, linear_limit.show),
        (closed_form, closed_form.show),
        (convergence, lambda: convergence.show(config)),
        (parametrizations, parametrizations.show),
        (coordinates, lambda: coordinates.show(config)),
        (ntk, lambda: ntk.show(config)),
        (pmi, lambda: pmi.show(config)),
        (probes, lambda: probes.show(config)),
        (lr_transfer, lambda: lr_transfer.show(config)),
        (overfitting, lambda: overfitting.show(config)),
    ]
    sections = []
    for module, show in items:
        start = time.perf_counter()
        try:
            exhibit = show()
        except UserError as error:  # a text that one item cannot do with
            log.warning("%s", error)
            sections.append(_section(module, f"<p>Not measured: {escape(str(error))}.</p>"))
            continue
        save(exhibit.drawing.figure, out, exhibit.drawing.name)
        sections.append(
            _section(module, html_figure(exhibit.drawing) + html_table(exhibit.table, "numbers"))
        )
        log.info(
            "%s: %.0f s. %s",
            exhibit.drawing.name,
            time.perf_counter() - start,
            exhibit.drawing.caption,
        )
    body = "\n".join([f"<h1>{escape(TITLE)}</h1><p>{escape(INTRODUCTION)}</p>", *sections])
    page, path = html_page(TITLE, body), out / "theory.html"
    write_atomically(path, lambda draft: draft.write_text(page, encoding="utf-8"))
    print(path)
    return path


def _section(module: ModuleType, shown: str) -> str:
    assert module.__doc__
    title, _, derivation = module.__doc__.partition("\n")
    return f"<h2>{escape(title.rstrip('.'))}</h2>\n{shown}\n<h3>Derivation</h3><pre>{escape(derivation.strip())}</pre>"
