"""Tables as plain text."""

Table = list[list[str]]
"""Rows of cells, the first row the header."""


def align(table: Table) -> list[str]:
    """The rows as lines of text with a rule under the header.

    The first column is flush left, the others are flush right, with two blanks in between.
    """
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for first, *others in table:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]))
    return [lines[0], "-" * len(lines[0]), *lines[1:]]
