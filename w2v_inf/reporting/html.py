"""HTML pages from the Jinja2 templates in templates/.

Decisions:
- Every template escapes its values. Words and options of a run are data, never markup. Only text
  of ours goes through the filters `typeset` and `displayed`, which turn LaTeX into MathML.
- An undefined variable in a template is an error.
- Figures are SVG in data URIs. A page needs no other file, and ids of two figures cannot collide.
  Each is there twice: for a desk and, with its panels below each other, for a phone.
"""

import base64
import io
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from w2v_inf.files import write_atomically
from w2v_inf.reporting.style import Drawing, stacked, write_svg
from w2v_inf.reporting.typeset import displayed, typeset


def svg_data_uri(drawing: Drawing, phone: bool = False) -> str:
    """The figure of `drawing` as a `data:` address of an SVG image, on request for a phone."""
    buffer = io.BytesIO()
    with stacked(drawing.figure) if phone else nullcontext():
        write_svg(drawing.figure, drawing.name, buffer)
    return f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


_environment = Environment(
    loader=PackageLoader("w2v_inf.reporting"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters |= {"svg_data_uri": svg_data_uri, "displayed": displayed, "typeset": typeset}


def write_page(path: Path, template: str, **content: Any) -> Path:
    """Write templates/TEMPLATE.html.j2, filled with `content`, to `path` and return `path`.

    Raises: UserError if the file cannot be written.
    """
    page = _environment.get_template(f"{template}.html.j2").render(content)
    # Names of files need not be UTF-8.
    content_ = page.encode("utf-8", "backslashreplace")
    write_atomically(path, lambda file: file.write_bytes(content_))
    return path
