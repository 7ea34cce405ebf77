"""Stage 6: theory.html with the derivation, figure and table of each claim.

The figures are also saved as PNG and SVG. The derivations on the page are the docstrings of the
modules, so page and code cannot disagree.
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
    """Paragraphs (p), list items (li) and formulas (pre) of a docstring, in order.

    Formulas are indented, items begin with a dash, and an item's other lines are indented too.
    """
    blocks: list[tuple[str, str]] = []
    for block in derivation.strip().split("\n\n"):
        last = ""
        for line in block.splitlines():
            tag = "pre" if line.startswith("  ") else "li" if line.startswith("- ") else "p"
            if last == "li" and tag == "pre":
                tag = "li"
            text = line[2:] if tag == "pre" else line.strip()
            if tag == last and not line.startswith("- "):
                text = f"{blocks.pop()[1]}\n{text}"
            else:
                text = text.removeprefix("- ")
            blocks.append((tag, text))
            last = tag
    return blocks
