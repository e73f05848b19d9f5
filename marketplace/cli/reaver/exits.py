"""Exit codes of `reaver`; stable, and shown by `reaver --help`.

They start above 109 so that none can be taken for a job's own code, which `reaver run --follow` passes through.
"""

from enum import IntEnum


class Exit(IntEnum):
    """How a command ended."""

    DONE = 0
    USAGE = 2
    """The command line can't be understood; typer's own code."""
    LOGIN = 110
    """No usable wallet or login."""
    REFUSED = 111
    """The market or the chain refused the request."""
    FUNDS = 112
    """Money, an allowance or a signature is missing."""
    UNSAFE = 113
    """What was to be signed isn't what was asked for; nothing was signed."""
    UNAVAILABLE = 114
    """No answer, or not yet: the same command may be given again and pays once."""
    NO_EXIT_CODE = 115
    """The job ended without an exit code of its own (cancelled, expired, lost)."""
    INVALID_RECEIPT = 116
    """The receipt does not verify."""
    INTERNAL = 117
    """A fault of this program or an answer that makes no sense."""
    DECLINED = 118
    """You said no; nothing was signed."""
    INTERRUPTED = 130
    """Ended by Ctrl-C; a job that was followed runs on."""


EXIT_CODES = """Exit codes: 0 done; 2 wrong usage; 110 no wallet or login; 111 refused; 112 money missing;
113 unsafe to sign (nothing was signed); 114 no answer, repeat the command (it pays once);
115 the job ended without an exit code; 116 the receipt does not verify; 117 a fault here;
118 you said no; 130 interrupted. `reaver run --follow` ends with the job's own exit code."""
