"""The command scripts/maml.py: options, table on stdout, figure in a folder."""

import argparse
import logging
import sys
from pathlib import Path

from w2v_inf.errors import UserError
from w2v_inf.maml.experiment import Options, compare, format_table, write
from w2v_inf.maml.tasks import omniglot, planted


def main() -> None:
    """Run the comparison. Exit code 2 and one line for what the user can mend."""
    arguments = _parser().parse_args()
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    try:
        options = Options(
            updates=arguments.updates,
            widths=tuple(arguments.widths),
            seeds=arguments.seeds,
            num_validations=arguments.validations,
            num_tasks=arguments.tasks,
        )
        sets = planted() if arguments.images is None else omniglot(arguments.images)
        table = compare(sets, options)
        print(format_table(table))
        for path in write(table, sets, options, arguments.out):
            print(path)
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


def _parser() -> argparse.ArgumentParser:
    defaults = Options()
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--images", type=Path, metavar="FOLDER", help="Omniglot's zips; planted tasks if absent")
    add("--out", type=Path, default=Path("runs/maml"), help="folder of the figure")
    add("--updates", type=int, default=defaults.updates, help="outer steps (%(default)s)")
    add("--widths", type=int, nargs="*", default=defaults.widths, help="finite widths")
    add("--seeds", type=int, default=defaults.seeds, help="at least 2 (%(default)s)")
    add("--validations", type=int, default=defaults.num_validations, help="(%(default)s)")
    add("--tasks", type=int, default=defaults.num_tasks, help="of a validation and the test")
    return parser
