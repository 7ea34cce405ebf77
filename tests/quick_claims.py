"""The theory page without its measurements: every claim shows an empty figure."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

import w2v_inf.theory
from w2v_inf.reporting.style import Drawing, new_axes
from w2v_inf.theory import page
from w2v_inf.theory.exhibit import Exhibit

NOT_CLAIMS = {"__init__", "page", "exhibit", "data"}
CLAIMS = sorted(
    {path.stem for path in Path(w2v_inf.theory.__file__).parent.glob("*.py")} - NOT_CLAIMS
)


@contextmanager
def quick_claims() -> Iterator[pytest.MonkeyPatch]:
    """Within the block no claim measures anything."""
    with pytest.MonkeyPatch.context() as patch:
        for name in CLAIMS:
            module = getattr(page, name)
            patch.setattr(module, "show", lambda *_, module=module: _exhibit(module))
        yield patch


def _exhibit(module: ModuleType) -> Exhibit:
    name = module.__name__.split(".")[-1]
    drawing = Drawing(name, name, new_axes(2, 2)[0], f"caption of <{name}>")
    return Exhibit(drawing, [["head", "b"], [name, "1"]], [f"note on {name}"])
