"""`reaver login`, `logout`, `whoami`."""

from datetime import UTC, datetime

from marketplace.cli.reaver.options import DEFAULT_API, ApiUrl, JsonFlag, KeypairFile, MarketAddress, Program, RpcUrl
from marketplace.cli.reaver.output import Output
from marketplace.cli.reaver.session import Connection, run, with_client


def login(
    api: ApiUrl = DEFAULT_API,
    keypair: KeypairFile = None,
    rpc: RpcUrl = None,
    program: Program = None,
    market: MarketAddress = None,
    as_json: JsonFlag = False,
) -> None:
    """Sign in with your wallet. No funds move.

    \b
    The login text is rebuilt here from its fields and signed only if it is for this
    wallet, this market's address and this moment. Other commands log in by themselves.

    \b
      reaver login
      reaver login --keypair ~/wallets/work.json --api https://market.example
    """
    output = Output(as_json=as_json)
    connection = Connection(api, keypair, rpc, program, market)
    with output.working("signing in"):
        stored = run(output, lambda: with_client(connection, lambda client: client.login()))
    expires_at = datetime.fromtimestamp(stored.expires_at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if as_json:
        output.json({"wallet": stored.wallet, "market_url": stored.api_url, "expires_at": expires_at})
    else:
        output.line(f"Signed in to {stored.api_url} as {stored.wallet}")


def logout(api: ApiUrl = DEFAULT_API, keypair: KeypairFile = None, as_json: JsonFlag = False) -> None:
    """End the login at the market and delete it here."""
    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    ended = run(output, lambda: with_client(connection, lambda client: client.logout()))
    if as_json:
        output.json({"logged_out": ended})
    else:
        output.line("Logged out" if ended else "There was no login")


def whoami(api: ApiUrl = DEFAULT_API, keypair: KeypairFile = None, as_json: JsonFlag = False) -> None:
    """Show the account behind the login."""
    output = Output(as_json=as_json)
    connection = Connection(api, keypair)
    account = run(output, lambda: with_client(connection, lambda client: client.me()))
    if as_json:
        output.json(account.model_dump(by_alias=True))
    else:
        output.fields(
            "", [("account", account.id), ("wallet", account.wallet), ("scopes", " ".join(account.scopes) or None)]
        )
