"""Instructions of the associated token, memo and address lookup table programs in words.

Source: Agave, transaction-status/src/parse_{associated_token,address_lookup_table,instruction}.rs; compared in
tests/conformance.
"""

from typing import Final

from marketplace.localnet.parsed.instruction import Accounts, Data, NotParsed, Parsed

_CREATED: Final = ("source", "account", "wallet", "mint", "systemProgram", "tokenProgram")
_RECOVERED: Final = ("nestedSource", "nestedMint", "destination", "nestedOwner", "ownerMint", "wallet", "tokenProgram")
_ASSOCIATED: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("create", _CREATED),
    ("createIdempotent", _CREATED),
    ("recoverNested", _RECOVERED),
)


def parse_associated_token(accounts: Accounts, raw: bytes) -> Parsed:
    """Raises NotParsed. No data at all is the oldest form of `create`."""
    tag = Data(raw).u8() if raw else 0
    if tag > 2:
        raise NotParsed
    kind, names = _ASSOCIATED[tag]
    accounts.need(len(names))
    return Parsed(kind, {name: accounts[index] for index, name in enumerate(names)})


def parse_memo(_: Accounts, raw: bytes) -> Parsed:
    """Raises NotParsed."""
    try:
        return Parsed(None, raw.decode())
    except UnicodeDecodeError:
        raise NotParsed from None


def parse_lookup_table(accounts: Accounts, raw: bytes) -> Parsed:
    """Raises NotParsed."""
    data = Data(raw)
    tag = data.u32()
    accounts.need({0: 4, 1: 2, 2: 2, 3: 2, 4: 3}.get(tag, 0))
    table = {"lookupTableAccount": accounts[0], "lookupTableAuthority": accounts[1]}
    if tag == 0:
        slot, bump = data.u64(), data.u8()
        info = {**table, "payerAccount": accounts[2], "systemProgram": accounts[3]}
        return Parsed("createLookupTable", {**info, "recentSlot": slot, "bumpSeed": bump})
    if tag == 1:
        return Parsed("freezeLookupTable", table)
    if tag == 2:
        count = data.u64()
        if count > len(raw) // 32:
            raise NotParsed
        more = {"newAddresses": [data.address() for _ in range(count)]}
        payer = {"payerAccount": accounts[2], "systemProgram": accounts[3]} if len(accounts) >= 4 else {}
        return Parsed("extendLookupTable", {**table, **more, **payer})
    if tag == 3:
        return Parsed("deactivateLookupTable", table)
    if tag == 4:
        return Parsed("closeLookupTable", {**table, "recipient": accounts[2]})
    raise NotParsed
