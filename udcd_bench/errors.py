"""The one exception a user is meant to see."""


class UserError(Exception):
    """Something the user can mend.

    Its message is one sentence (or one list) that names the thing and the mend; the command line prints it
    without a traceback and exits with status 2.
    """
