"""Every address of the program, derived from its seeds; and addresses as people write them.

Nobody's word is taken for an address that can be derived: what a server or a store names is compared with
what these functions give. Seeds: design page program.md, section 2; each has a prefix of its own type and
only fixed-length parts, so no two accounts can share an address.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from solders.pubkey import Pubkey
from solders.signature import Signature

from marketplace.chain.errors import NotCanonical

SYSTEM_PROGRAM: Final = Pubkey.from_string("11111111111111111111111111111111")
TOKEN_PROGRAM: Final = Pubkey.from_string("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA")
TOKEN_2022_PROGRAM: Final = Pubkey.from_string("TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb")
ASSOCIATED_TOKEN_PROGRAM: Final = Pubkey.from_string("ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL")
COMPUTE_BUDGET_PROGRAM: Final = Pubkey.from_string("ComputeBudget111111111111111111111111111111")
ED25519_PROGRAM: Final = Pubkey.from_string("Ed25519SigVerify111111111111111111111111111")
INSTRUCTIONS_SYSVAR: Final = Pubkey.from_string("Sysvar1nstructions1111111111111111111111111")
CLOCK_SYSVAR: Final = Pubkey.from_string("SysvarC1ock11111111111111111111111111111111")
UPGRADEABLE_LOADER: Final = Pubkey.from_string("BPFLoaderUpgradeab1e11111111111111111111111")
NULL_ADDRESS: Final = Pubkey.default()

CLASS_ID_BYTES: Final = 16


def parse_address(text: str) -> Pubkey:
    """A key from its canonical base58 text.

    Raises NotCanonical for anything else: two spellings of one key would be two wallets to a database.
    """
    try:
        key = Pubkey.from_string(text)
    except ValueError as error:
        raise NotCanonical("not the base58 text of a 32-byte address") from error
    if str(key) != text:
        raise NotCanonical("not the canonical base58 text of its address")
    return key


def parse_signature(text: str) -> Signature:
    """A transaction signature from its canonical base58 text; raises NotCanonical."""
    try:
        signature = Signature.from_string(text)
    except ValueError as error:
        raise NotCanonical("not the base58 text of a 64-byte signature") from error
    if str(signature) != text:
        raise NotCanonical("not the canonical base58 text of its signature")
    return signature


def class_id(name: str) -> bytes:
    """A class's name as the chain holds it: ASCII, padded with zeros to 16 bytes; empty means any class."""
    encoded = name.encode("ascii")
    if len(encoded) > CLASS_ID_BYTES or b"\0" in encoded:
        raise ValueError(f"a class name has at most {CLASS_ID_BYTES} ASCII characters")
    return encoded.ljust(CLASS_ID_BYTES, b"\0")


def class_name(identifier: bytes) -> str:
    """The name inside a class id. Raises ValueError when it isn't one that `class_id` could have made."""
    name = identifier.rstrip(b"\0").decode("ascii")
    if class_id(name) != identifier:
        raise ValueError("not a class id")
    return name


@lru_cache(maxsize=65_536)
def associated_token_address(owner: Pubkey, mint: Pubkey) -> Pubkey:
    """The wallet's ordinary account for a classic SPL token."""
    seeds = [bytes(owner), bytes(TOKEN_PROGRAM), bytes(mint)]
    return Pubkey.find_program_address(seeds, ASSOCIATED_TOKEN_PROGRAM)[0]


def program_data_address(program: Pubkey) -> Pubkey:
    """Where the upgradeable loader keeps a program's code and its upgrade authority."""
    return Pubkey.find_program_address([bytes(program)], UPGRADEABLE_LOADER)[0]


@dataclass(frozen=True, slots=True)
class Addresses:
    """The derived addresses of one deployment of the program."""

    program: Pubkey

    def config(self) -> Pubkey:
        return self._derive(b"config")

    def compensation(self) -> Pubkey:
        """The stake-token account that noted compensations are paid from."""
        return self._derive(b"compensation")

    def emission(self) -> Pubkey:
        """The stake-token account that rewards are paid from."""
        return self._derive(b"emission")

    def market(self, authority: Pubkey) -> Pubkey:
        return self._derive(b"market", bytes(authority))

    def market_fees(self, market: Pubkey) -> Pubkey:
        """The market's payment-token account for its and the protocol's fees."""
        return self._derive(b"market_fees", bytes(market))

    def hardware_class(self, identifier: bytes) -> Pubkey:
        """identifier: 16 bytes, as `class_id` gives them."""
        return self._derive(b"class", identifier)

    def node(self, node_key: Pubkey) -> Pubkey:
        return self._derive(b"node", bytes(node_key))

    def pool(self, node: Pubkey) -> Pubkey:
        return self._derive(b"pool", bytes(node))

    def pool_stake(self, pool: Pubkey) -> Pubkey:
        """The pool's stake-token account."""
        return self._derive(b"pool_stake", bytes(pool))

    def pool_fees(self, pool: Pubkey) -> Pubkey:
        """The pool's payment-token account: fee rewards, and what its operator is owed."""
        return self._derive(b"pool_fees", bytes(pool))

    def position(self, pool: Pubkey, owner: Pubkey) -> Pubkey:
        return self._derive(b"position", bytes(pool), bytes(owner))

    def ticket(self, position: Pubkey, index: int) -> Pubkey:
        return self._derive(b"ticket", bytes(position), index.to_bytes(8, "little"))

    def epoch(self, index: int) -> Pubkey:
        return self._derive(b"epoch", index.to_bytes(8, "little"))

    def vault(self, wallet: Pubkey) -> Pubkey:
        return self._derive(b"vault", bytes(wallet))

    def vault_tokens(self, vault: Pubkey) -> Pubkey:
        """The vault's payment-token account; a plain transfer to it is a deposit."""
        return self._derive(b"vault_tokens", bytes(vault))

    def allowance(self, wallet: Pubkey, market: Pubkey) -> Pubkey:
        return self._derive(b"allowance", bytes(wallet), bytes(market))

    def escrow(self, wallet: Pubkey, opener: Pubkey, nonce: int) -> Pubkey:
        """opener: the wallet itself, or the Market account that opens under its allowance."""
        return self._derive(b"escrow", bytes(wallet), bytes(opener), nonce.to_bytes(8, "little"))

    def _derive(self, *seeds: bytes) -> Pubkey:
        return Pubkey.find_program_address(seeds, self.program)[0]
