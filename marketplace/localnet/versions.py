"""What accounts looked like at the slots that are not final yet: LiteSVM knows only the present."""

from collections import deque
from collections.abc import Callable, Iterator

from solders.account import Account
from solders.pubkey import Pubkey


class AccountVersions:
    """Accounts as seen by an earlier slot, and all accounts of a program.

    Invariant: for every account changed in a slot above `finalized`, its state before the first change of that
    slot is kept, and nothing older is. So the memory is that of the writes of the last few seconds.
    """

    def __init__(self, read: Callable[[Pubkey], Account | None]) -> None:
        self._read = read
        self._before: dict[Pubkey, list[tuple[int, Account | None]]] = {}
        self._changed: deque[tuple[int, set[Pubkey]]] = deque()
        self._owned: dict[Pubkey, dict[Pubkey, None]] = {}

    def index(self, address: Pubkey, before: Account | None, after: Account | None) -> None:
        """Note who owns the account now."""
        if before is not None and (after is None or after.owner != before.owner):
            self._owned.get(before.owner, {}).pop(address, None)
        if after is not None:
            self._owned.setdefault(after.owner, {})[address] = None

    def record(self, slot: int, address: Pubkey, before: Account | None) -> None:
        """Note that the account is changed in `slot`, and what it was before."""
        if not self._changed or self._changed[-1][0] != slot:
            self._changed.append((slot, set()))
        self._changed[-1][1].add(address)
        history = self._before.setdefault(address, [])
        if not history or history[-1][0] != slot:
            history.append((slot, before))

    def forget_until(self, finalized: int) -> None:
        """Drop what no commitment can see any more."""
        while self._changed and self._changed[0][0] <= finalized:
            slot, addresses = self._changed.popleft()
            for address in addresses:
                history = self._before[address]
                while history and history[0][0] <= slot:
                    del history[0]
                if not history:
                    del self._before[address]

    def at(self, address: Pubkey, slot: int) -> Account | None:
        """The account as the bank of `slot` sees it."""
        for changed, before in self._before.get(address, ()):
            if changed > slot:
                return before
        return self._read(address)

    def owned_by(self, program: Pubkey, slot: int) -> Iterator[tuple[Pubkey, Account]]:
        """All accounts that `program` owns in the bank of `slot`, in no particular order."""
        candidates = dict(self._owned.get(program, {}))
        candidates.update(dict.fromkeys(self._before))
        for address in candidates:
            account = self.at(address, slot)
            if account is not None and account.owner == program:
                yield address, account

    def everything(self, slot: int) -> Iterator[tuple[Pubkey, Account]]:
        """All accounts in the bank of `slot`, in no particular order."""
        candidates = {address: None for owned in self._owned.values() for address in owned}
        candidates.update(dict.fromkeys(self._before))
        for address in candidates:
            account = self.at(address, slot)
            if account is not None:
                yield address, account

    def changed_in(self, above: int, until: int) -> set[Pubkey]:
        """Accounts changed in the slots above `above` up to and including `until`."""
        changed: set[Pubkey] = set()
        for slot, addresses in self._changed:
            if above < slot <= until:
                changed |= addresses
        return changed
