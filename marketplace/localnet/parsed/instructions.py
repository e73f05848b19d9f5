"""Instructions as jsonParsed shows them: in words where the program is known, else with its accounts and its bytes."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import base58
from solders.pubkey import Pubkey

from marketplace.localnet.parsed.instruction import Accounts, NotParsed, Parsed
from marketplace.localnet.parsed.small_programs import parse_associated_token, parse_lookup_table, parse_memo
from marketplace.localnet.parsed.system import parse_system
from marketplace.localnet.parsed.token_program import parse_token
from marketplace.localnet.tokens import ASSOCIATED_TOKEN_PROGRAM, TOKEN_PROGRAM

MEMO_PROGRAMS: Final = frozenset(
    Pubkey.from_string(text)
    for text in ("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr", "Memo1UhkJRfHyvLMcVucJwxXeuD728EqVDDwQDxFMNo")
)
LOOKUP_TABLE_PROGRAM: Final = Pubkey.from_string("AddressLookupTab1e1111111111111111111111111")

_Parser = Callable[[Accounts, bytes], Parsed]
_PARSERS: Final[dict[Pubkey, tuple[str, _Parser]]] = {
    Pubkey.default(): ("system", parse_system),
    TOKEN_PROGRAM: ("spl-token", parse_token),
    ASSOCIATED_TOKEN_PROGRAM: ("spl-associated-token-account", parse_associated_token),
    LOOKUP_TABLE_PROGRAM: ("address-lookup-table", parse_lookup_table),
    **dict.fromkeys(MEMO_PROGRAMS, ("spl-memo", parse_memo)),
}


def instruction_json(
    program: Pubkey, accounts: Sequence[Pubkey], data: bytes, stack_height: int | None
) -> dict[str, Any]:
    """One instruction of a jsonParsed transaction."""
    known = _PARSERS.get(program)
    if known is not None:
        name, parse = known
        try:
            parsed = parse(Accounts(accounts), data)
        except NotParsed:
            pass
        else:
            return {
                "program": name,
                "programId": str(program),
                "parsed": parsed.as_json(),
                "stackHeight": stack_height,
            }
    return {
        "programId": str(program),
        "accounts": [str(each) for each in accounts],
        "data": base58.b58encode(data).decode(),
        "stackHeight": stack_height,
    }
