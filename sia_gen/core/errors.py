"""What a command says, and with which code it exits, when it cannot do what it was asked.

Exit codes: 0 done, 1 internal error, 2 usage, input or resources, 3 finished but incomplete,
4 verification failed, 5 locked by another run, 6 training diverged, 130 and 143 signals.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

from sia_gen.core.log import fail, say
from sia_gen.core.threads import share_cores


class UserError(Exception):
    """A mistake the user can mend; the message says where, what was found and what to do."""

    exit_code = 2


class IncompleteError(UserError):
    """The run ended, but some shards or cells failed and are named."""

    exit_code = 3


class VerificationError(UserError):
    """Files on disk do not match their records."""

    exit_code = 4


class LockedError(UserError):
    """Another run holds the folder."""

    exit_code = 5


class DivergedError(UserError):
    """Training met a non-finite loss; the last good checkpoint is kept."""

    exit_code = 6


class StoppedError(UserError):
    """A signal ended the work; what was published stays. The exit code names the signal."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


class NonFiniteImagesError(UserError):
    """A model made NaN or infinite values; no image can be made of them, so none is let through."""

    def __init__(self, count: int, of: int) -> None:
        super().__init__(f"{count} of {of} images of a batch are non-finite: the model is broken")
        self.count, self.of = count, of

    def __reduce__(self) -> tuple[type[NonFiniteImagesError], tuple[int, int]]:
        """Lets the error travel between processes, which exceptions of two arguments cannot."""
        return type(self), (self.count, self.of)


def run_command(command: Callable[[], object]) -> None:
    """Runs a command line and turns user errors into one line on stderr and their exit code."""
    share_cores()
    try:
        command()
        sys.stdout.flush()
    except UserError as error:
        fail(error, exit_code=error.exit_code)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        say("interrupted")
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:
        # The reader of stdout went away (`| head`): that is its right, not our failure.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def near_names(wanted: str, known: list[str]) -> str:
    """Returns ' Did you mean ...?' for a misspelt name, or the list of known names."""
    import difflib

    close = difflib.get_close_matches(wanted, known, n=3, cutoff=0.5)
    if close:
        return f" Did you mean {' or '.join(close)}?"
    return f" Known: {', '.join(known)}." if known else ""
