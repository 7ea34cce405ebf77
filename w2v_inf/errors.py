"""The one exception that a user can cause, and how a script ends on it."""


class UserError(Exception):
    """A mistake outside the program: an option, a file, the machine's size.

    The message is one line and names the option or file, what is allowed, what came and what to do.
    Scripts print it without a traceback and exit with 2 (see `w2v_inf.cli`).
    """
