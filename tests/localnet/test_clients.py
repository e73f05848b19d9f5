"""The clients people use: solana-py's AsyncClient and WebSocket, anchorpy's Provider."""

import asyncio
import os
from pathlib import Path

import pytest
from anchorpy.provider import Provider, Wallet
from solana.rpc.async_api import AsyncClient
from solana.rpc.commitment import Confirmed, Processed
from solana.rpc.core import RPCException
from solana.rpc.types import MemcmpOpts, TokenAccountOpts, TxOpts
from solana.rpc.websocket_api import connect
from solders.keypair import Keypair
from solders.message import Message
from solders.pubkey import Pubkey
from solders.rpc.errors import SendTransactionPreflightFailureMessage
from solders.transaction import Transaction
from solders.transaction_status import InstructionErrorCustom, TransactionErrorInstructionError

from tests.localnet.process import Localnet, Rpc
from tests.localnet.transactions import pay, signed

TOKENS = Pubkey.from_string("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA")


@pytest.fixture
async def client(localnet: Localnet):
    async with AsyncClient(localnet.rpc, Confirmed) as client:
        yield client


async def fund(client: AsyncClient) -> Keypair:
    wallet = Keypair()
    signature = (await client.request_airdrop(wallet.pubkey(), 10**10)).value
    async with asyncio.timeout(30):
        while (await client.get_balance(wallet.pubkey())).value == 0:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert (await client.get_signature_statuses([signature])).value[0].err is None
    return wallet


async def test_solana_py_reads_everything(client: AsyncClient, localnet: Localnet, rpc: Rpc) -> None:
    assert await client.is_connected()
    assert (await client.get_version()).value.solana_core == "2.2.0"
    assert str((await client.get_genesis_hash()).value) == localnet.ready["genesis_hash"]
    slot, height = (await client.get_slot(Processed)).value, (await client.get_block_height(Processed)).value
    assert height >= slot > 0
    assert (await client.get_epoch_info()).value.slots_in_epoch == 432_000
    assert (await client.get_block_time(1)).value > 1_700_000_000
    assert (await client.get_minimum_balance_for_rent_exemption(165)).value == 2_039_280
    wallet = await fund(client)
    await rpc.until(
        "confirmed", (await rpc.result("localnetFaucet", str(wallet.pubkey()), {"payment": 5}))["signature"]
    )
    mint = Pubkey.from_string(localnet.ready["payment_mint"])
    assert (await client.get_token_supply(mint)).value.amount == "5"
    held = (await client.get_token_accounts_by_owner(wallet.pubkey(), TokenAccountOpts(mint=mint))).value
    assert (await client.get_token_account_balance(held[0].pubkey)).value.amount == "5"
    parsed = await client.get_token_accounts_by_owner_json_parsed(wallet.pubkey(), TokenAccountOpts(program_id=TOKENS))
    assert parsed.value[0].account.data.parsed["info"]["tokenAmount"]["amount"] == "5"
    filters = [165, MemcmpOpts(offset=32, bytes=str(wallet.pubkey()))]
    listed = (await client.get_program_accounts(TOKENS, encoding="base64", filters=filters)).value
    assert [each.pubkey for each in listed] == [held[0].pubkey]
    accounts = (await client.get_multiple_accounts([mint, Keypair().pubkey()])).value
    assert len(accounts[0].data) == 82
    assert accounts[1] is None


async def test_solana_py_sends_and_reads_a_transaction(client: AsyncClient) -> None:
    wallet, to = await fund(client), Keypair().pubkey()
    latest = (await client.get_latest_blockhash()).value
    transaction = signed(latest.blockhash, wallet, pay(wallet, to, 10**7))
    assert (await client.get_fee_for_message(transaction.message)).value == 5_000
    assert (await client.simulate_transaction(transaction)).value.units_consumed == 150
    signature = (await client.send_transaction(transaction, TxOpts(preflight_commitment=Confirmed))).value
    confirmed = await client.confirm_transaction(
        signature, Confirmed, sleep_seconds=0.02, last_valid_block_height=latest.last_valid_block_height
    )
    assert confirmed.value[0].err is None
    found = (await client.get_transaction(signature, "json", Confirmed, 0)).value
    assert found.transaction.meta.fee == 5_000
    assert [each.signature for each in (await client.get_signatures_for_address(to)).value] == [signature]


async def test_solana_py_understands_a_failed_preflight(client: AsyncClient) -> None:
    wallet = await fund(client)
    latest = (await client.get_latest_blockhash()).value
    transaction = signed(latest.blockhash, wallet, pay(wallet, Keypair().pubkey(), 10**15))
    with pytest.raises(RPCException) as refused:
        await client.send_transaction(transaction, TxOpts(preflight_commitment=Confirmed))
    failure = refused.value.args[0]
    assert isinstance(failure, SendTransactionPreflightFailureMessage)
    assert failure.data.err == TransactionErrorInstructionError(0, InstructionErrorCustom(1))


async def test_solana_py_waits_for_a_signature(client: AsyncClient, localnet: Localnet) -> None:
    wallet = await fund(client)
    latest = (await client.get_latest_blockhash()).value
    transaction = signed(latest.blockhash, wallet, pay(wallet, Keypair().pubkey(), 10**7))
    async with connect(localnet.ws) as socket:
        await socket.signature_subscribe(transaction.signatures[0], Confirmed)
        number = (await socket.recv())[0].result
        await client.send_transaction(transaction, TxOpts(preflight_commitment=Confirmed))
        (told,) = await asyncio.wait_for(socket.recv(), 30)
        assert (told.subscription, told.result.value.err) == (number, None)


async def test_anchorpy_sends_through_its_provider(client: AsyncClient) -> None:
    wallet, to = await fund(client), Keypair().pubkey()
    provider = Provider(client, Wallet(wallet), TxOpts(preflight_commitment=Confirmed, skip_confirmation=False))
    latest = (await client.get_latest_blockhash()).value
    message = Message.new_with_blockhash([pay(wallet, to, 10**7)], wallet.pubkey(), latest.blockhash)
    await provider.send(Transaction([wallet], message, latest.blockhash))
    assert (await client.get_balance(to)).value == 10**7


async def test_the_market_program_is_loaded_and_refuses_nonsense(tmp_path: Path) -> None:
    """An unknown instruction reaches the program and fails inside of it."""
    committed = Path(__file__).parents[2] / "programs" / "deploy" / "reaver_market.so"
    program = os.environ.get("REAVER_PROGRAM", committed)
    localnet = await Localnet(tmp_path, f'slot_ms = 50\nprogram = "{program}"\n').start()
    try:
        async with AsyncClient(localnet.rpc, Confirmed) as client:
            wallet, program_id = await fund(client), Pubkey.from_string(localnet.ready["program_id"])
            assert (await client.get_account_info(program_id, encoding="base64")).value.executable
            from solders.instruction import Instruction

            latest = (await client.get_latest_blockhash()).value
            nonsense = signed(latest.blockhash, wallet, Instruction(program_id, b"nonsense", []))
            simulated = (await client.simulate_transaction(nonsense)).value
            assert simulated.logs[0] == f"Program {program_id} invoke [1]"
            assert isinstance(simulated.err, TransactionErrorInstructionError)
    finally:
        await localnet.kill()
