"""Who pays for an escrow: the market under an allowance, or the wallet with a signature, or nobody yet.

Source: api.md section 1.3, the table of step 4.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from marketplace.domain.allocations import Opener
from marketplace.domain.nonces import NonceWindow
from marketplace.domain.quantities import Millis, Tokens
from marketplace.services.chain_port import AllowanceView, VaultView


class BlockedBy(StrEnum):
    """Why the market may not open the escrow itself. Source: api.md section 1.3."""

    NO_ALLOWANCE = "no_allowance"
    EXPIRED = "expired"
    REVOKED = "revoked"
    PER_JOB = "per_job"
    PER_DAY = "per_day"
    TOTAL = "total"
    PRICE = "price"
    VAULT_SHORT = "vault_short"
    UNASSIGNED = "unassigned"
    """Too many escrows of the wallet wait on the market's rent: further ones the wallet pays for."""
    WALLET_OPENED = "wallet_opened"
    """The wallet opened it, so the wallet alone may extend it; no allowance helps."""
    OUTSTANDING = "outstanding"
    """Nothing any more but the transaction that the wallet was given before: it can still land, and two never may."""


REFUSALS: Final = {
    "EscrowCapExceeded": BlockedBy.PER_JOB,
    "DayCapExceeded": BlockedBy.PER_DAY,
    "TotalCapExceeded": BlockedBy.TOTAL,
    "PriceAboveAllowance": BlockedBy.PRICE,
    "AllowanceExpired": BlockedBy.EXPIRED,
    "AllowanceRevoked": BlockedBy.REVOKED,
    "VaultShort": BlockedBy.VAULT_SHORT,
}
"""What the program's refusals mean here: another request of the wallet was quicker than our look at the chain."""


def blocked_by(
    allowance: AllowanceView | None, deposit: Tokens, price_per_hour: Tokens, now: Millis
) -> BlockedBy | None:
    """The first cap in the way, None when the allowance covers the deposit."""
    if allowance is None:
        return BlockedBy.NO_ALLOWANCE
    checks = (
        (allowance.total > 0, BlockedBy.REVOKED),
        (now < allowance.expires_at, BlockedBy.EXPIRED),
        (deposit <= allowance.per_escrow, BlockedBy.PER_JOB),
        (allowance.used_today + deposit <= allowance.per_day, BlockedBy.PER_DAY),
        (allowance.used_total + deposit <= allowance.total, BlockedBy.TOTAL),
        (price_per_hour <= allowance.max_price_per_hour, BlockedBy.PRICE),
    )
    return next((found for holds, found in checks if not holds), None)


@dataclass(frozen=True, slots=True)
class Funds:
    """What a wallet has for one deposit. gap: what the vault lacks."""

    vault: VaultView | None
    allowance: AllowanceView | None
    wallet_balance: Tokens
    deposit: Tokens

    @property
    def free(self) -> Tokens:
        """The vault's free balance."""
        return Tokens(0) if self.vault is None else self.vault.free

    @property
    def gap(self) -> Tokens:
        """What has to come from the wallet's own token account."""
        return Tokens(max(0, self.deposit - self.free))

    def nonces(self, opener: Opener) -> NonceWindow:
        """Nonces of escrows that `opener` opens, as the chain has them."""
        owner = self.allowance if opener is Opener.MARKET else self.vault
        return owner.nonces if owner is not None else NonceWindow()

    def obstacle(self, price_per_hour: Tokens, now: Millis) -> BlockedBy | None:
        """Why the market can't open the escrow itself, None when it can."""
        if self.gap:
            return BlockedBy.VAULT_SHORT
        return blocked_by(self.allowance, self.deposit, price_per_hour, now)
