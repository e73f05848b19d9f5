"""Transactions for the tests, built with solders alone."""

import base64

from solders.hash import Hash
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.message import Message, MessageV0
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction


def pay(source: Keypair, to: Pubkey, lamports: int) -> Instruction:
    return transfer(TransferParams(from_pubkey=source.pubkey(), to_pubkey=to, lamports=lamports))


def signed(
    blockhash: Hash | str, payer: Keypair, *instructions: Instruction, legacy: bool = False
) -> VersionedTransaction:
    recent = Hash.from_string(blockhash) if isinstance(blockhash, str) else blockhash
    message: Message | MessageV0
    if legacy:
        message = Message.new_with_blockhash(list(instructions), payer.pubkey(), recent)
    else:
        message = MessageV0.try_compile(payer.pubkey(), list(instructions), [], recent)
    return VersionedTransaction(message, [payer])


def as_base64(transaction: VersionedTransaction) -> str:
    return base64.b64encode(bytes(transaction)).decode()
