"""The one exception for mistakes that a user can mend."""


class UserError(ValueError):
    """A mistake in what was asked for, or in a file that was given.

    Its message names what is wrong and how to mend it.  The command line
    prints the message alone, without a traceback, and exits with status 2.
    From Python it is an ordinary `ValueError`.
    """
