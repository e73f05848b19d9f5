"""What can stop the localnet itself. JSON-RPC errors are answers, not failures: rpc/envelope.py.

LocalnetError
├─ ConfigInvalid        the `[chain]` section can't be used as it stands
├─ ProgramUnusable      a program file is missing, or the runtime refuses it
├─ FolderInUse          another reaver-localnet holds the data folder
├─ FolderMismatch       the data folder was made by another version or another configuration
├─ NotRunning           no reaver-localnet answers for this data folder
├─ GiftDropped          the faucet's transaction could not be included
├─ FaucetRefused        the faucet answered with an error
└─ JournalBroken        the journal can't be written: the process ends, since it may not answer any more
"""


class LocalnetError(Exception):
    """Root of the tree; never raised itself."""


class ConfigInvalid(LocalnetError):
    """The `[chain]` section can't be used as it stands."""


class ProgramUnusable(LocalnetError):
    """A program file is missing, or the runtime refuses it."""


class FolderInUse(LocalnetError):
    """Another reaver-localnet holds the data folder."""


class FolderMismatch(LocalnetError):
    """The data folder was made by another version or another configuration."""


class NotRunning(LocalnetError):
    """No reaver-localnet answers for this data folder."""


class GiftDropped(LocalnetError):
    """The faucet's transaction could not be included."""


class FaucetRefused(LocalnetError):
    """The faucet answered with an error."""


class JournalBroken(LocalnetError):
    """The journal can't be written: nothing may be answered any more."""
