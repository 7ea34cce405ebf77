"""The one exception for mistakes that a user can mend."""

NO_WINDOWS = "w2v_inf runs on Linux and macOS: on Windows use WSL"


class UserError(Exception):
    """A mistake outside the program: an option, a file, the size of the machine.

    The message is one line. It names the option or file and says what is allowed, what came, and
    what to do. Commands print it without a traceback and exit with 2 (cli.py).
    """
