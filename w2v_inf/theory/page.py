"""Stage 6: theory.html with the derivation, figure and table of each claim.

Decisions:
- The derivations on the page are the docstrings of the modules, so page and code cannot disagree.
  They are written in a small part of Markdown, with formulas in LaTeX (`reporting.typeset`).
- A formula that cannot be typeset is an error, never shown as it stands.
- The figures are also saved as PNG and SVG.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from w2v_inf.config import Config
from w2v_inf.errors import UserError
from w2v_inf.models.cpu.threads import training_threads
from w2v_inf.reporting.html import write_page
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


def theory(config: Config) -> Path:
    """Stage 6: measure and draw every claim into `plot.out` (default: RUNS_DIR/theory).

    Prints the path of theory.html. `corpus` is the text of the claims that need real words. A
    claim that cannot use that text says so in its section. Cost: four minutes of one core with the
    default corpus; on your own text, linear probes take 15 trainings.
    """
    out = Path(config.plot.out) if config.plot.out else Path(config.runs_dir) / "theory"
    claims: list[tuple[ModuleType, Callable[[], Exhibit]]] = [
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
    with training_threads(config.num_threads):
        sections = [_section(module, show, out) for module, show in claims]
    path = write_page(
        out / "theory.html",
        "theory",
        title="The theory of wide word2vec, checked",
        sections=sections,
    )
    print(path)
    return path


def _section(module: ModuleType, show: Callable[[], Exhibit], out: Path) -> dict[str, Any]:
    """What the template shows of one claim; saves its figure."""
    assert module.__doc__
    title, _, derivation = module.__doc__.partition("\n")
    section = {"title": title.rstrip("."), "derivation": _blocks(derivation)}
    start = time.perf_counter()
    try:
        exhibit = show()
    except UserError as error:  # the text does not suit this claim
        log.warning("%s", error)
        return section | {"exhibit": None, "reason": str(error)}
    drawing = exhibit.drawing
    save(drawing.figure, out, drawing.name)
    log.info("%s: %.0f s. %s", drawing.name, time.perf_counter() - start, drawing.caption)
    return section | {"exhibit": exhibit}


def _blocks(derivation: str) -> list[tuple[str, str]]:
    """Paragraphs (p), list items (li) and formulas (formula) of a docstring, in order.

    An item begins with a dash, and its other lines are indented by two. A formula is indented by
    four, and its other lines by more.
    """
    blocks: list[tuple[str, str]] = []
    last = ""
    for line in derivation.strip().splitlines():
        tag = _tag(line)
        if tag == "more" or tag == last == "p":
            tag, text = blocks.pop()
            blocks.append((tag, f"{text}\n{line.strip()}"))
        elif tag:
            blocks.append((tag, line.strip().removeprefix("- ")))
        last = tag
    return blocks


def _tag(line: str) -> str:
    """The block that a line begins; `more` for one that continues the block before."""
    indent = len(line) - len(line.lstrip())
    if indent:
        return "formula" if indent == 4 else "more"
    return "" if not line else "li" if line.startswith("- ") else "p"
