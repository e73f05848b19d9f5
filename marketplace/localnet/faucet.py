"""The transactions that give tokens away."""

from dataclasses import dataclass
from typing import Final

from solders.compute_budget import set_compute_unit_limit
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import Message
from solders.pubkey import Pubkey
from solders.system_program import ID as SYSTEM_PROGRAM
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction

from marketplace.localnet.tokens import ASSOCIATED_TOKEN_PROGRAM, TOKEN_PROGRAM, associated_address

# Specified by the token programs: the instruction tags CreateIdempotent and MintTo.
_CREATE_IDEMPOTENT: Final = bytes([1])
_MINT_TO: Final = bytes([7])
# Chosen: two account creations and two mints take less than 70,000 units on Agave 2.2.
_COMPUTE_LIMIT: Final = 150_000
# What a signed 64-bit number of SQLite's holds.
LAMPORTS_MOST: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class TokenGift:
    """So many base units of a mint."""

    mint: Pubkey
    amount: int


@dataclass(frozen=True, slots=True)
class Gift:
    """What a wallet is given, in base units."""

    lamports: int
    tokens: tuple[TokenGift, ...]

    @property
    def is_empty(self) -> bool:
        return self.lamports == 0 and all(each.amount == 0 for each in self.tokens)


@dataclass(frozen=True, slots=True)
class Benefactor:
    """The two keys that give: one holds the lamports and pays all fees, the other mints."""

    faucet: Keypair
    mint_authority: Keypair

    def gift_transaction(self, wallet: Pubkey, gift: Gift, blockhash: Hash, serial: int) -> VersionedTransaction:
        """One transaction for the whole gift; creates the wallet's associated token accounts where needed.

        serial: makes equal gifts on one blockhash different messages, by the compute limit they ask for.
        """
        payer = self.faucet.pubkey()
        instructions = [set_compute_unit_limit(_COMPUTE_LIMIT + serial)]
        if gift.lamports:
            instructions.append(
                transfer(TransferParams(from_pubkey=payer, to_pubkey=wallet, lamports=gift.lamports)),
            )
        minting = [each for each in gift.tokens if each.amount]
        for each in minting:
            instructions += [
                _create_associated(payer, wallet, each.mint),
                self._mint_to(each.mint, associated_address(wallet, each.mint), each.amount),
            ]
        message = Message.new_with_blockhash(instructions, payer, blockhash)
        signers = [self.faucet, self.mint_authority] if minting else [self.faucet]
        return VersionedTransaction(message, signers)

    def _mint_to(self, mint: Pubkey, holder: Pubkey, amount: int) -> Instruction:
        return Instruction(
            TOKEN_PROGRAM,
            _MINT_TO + amount.to_bytes(8, "little"),
            [
                AccountMeta(mint, is_signer=False, is_writable=True),
                AccountMeta(holder, is_signer=False, is_writable=True),
                AccountMeta(self.mint_authority.pubkey(), is_signer=True, is_writable=False),
            ],
        )


def _create_associated(payer: Pubkey, wallet: Pubkey, mint: Pubkey) -> Instruction:
    return Instruction(
        ASSOCIATED_TOKEN_PROGRAM,
        _CREATE_IDEMPOTENT,
        [
            AccountMeta(payer, is_signer=True, is_writable=True),
            AccountMeta(associated_address(wallet, mint), is_signer=False, is_writable=True),
            AccountMeta(wallet, is_signer=False, is_writable=False),
            AccountMeta(mint, is_signer=False, is_writable=False),
            AccountMeta(SYSTEM_PROGRAM, is_signer=False, is_writable=False),
            AccountMeta(TOKEN_PROGRAM, is_signer=False, is_writable=False),
        ],
    )
