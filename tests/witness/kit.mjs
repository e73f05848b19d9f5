// A wallet that uses @solana/kit: reads, an airdrop, a transfer sent and confirmed over the WebSocket, one refused.
//
// In:  {rpc, ws, paymentMint} as JSON on standard input. Out: what it read, for test_clients.py to judge.
import { readFileSync } from "node:fs";
import {
  AccountRole,
  address,
  airdropFactory,
  appendTransactionMessageInstruction,
  assertIsTransactionWithBlockhashLifetime,
  createSolanaRpc,
  createSolanaRpcSubscriptions,
  createTransactionMessage,
  fetchEncodedAccount,
  generateKeyPairSigner,
  getSignatureFromTransaction,
  isSolanaError,
  lamports,
  pipe,
  sendAndConfirmTransactionFactory,
  setTransactionMessageFeePayerSigner,
  setTransactionMessageLifetimeUsingBlockhash,
  signTransactionMessageWithSigners,
  SOLANA_ERROR__INSTRUCTION_ERROR__CUSTOM,
  SOLANA_ERROR__JSON_RPC__SERVER_ERROR_SEND_TRANSACTION_PREFLIGHT_FAILURE,
} from "@solana/kit";

const given = JSON.parse(readFileSync(0, "utf8"));
const rpc = createSolanaRpc(given.rpc);
const rpcSubscriptions = createSolanaRpcSubscriptions(given.ws);
const sendAndConfirm = sendAndConfirmTransactionFactory({ rpc, rpcSubscriptions });
const commitment = "confirmed";

const SYSTEM_PROGRAM = address("11111111111111111111111111111111");
const FUNDED = lamports(2_000_000_000n);
const SENT = 1_234_567_890n;

// The system program's instruction 2, written by hand: its own package is another dependency.
function transfer(from, to, amount) {
  const data = new Uint8Array(12);
  const view = new DataView(data.buffer);
  view.setUint32(0, 2, true);
  view.setBigUint64(4, amount, true);
  return {
    programAddress: SYSTEM_PROGRAM,
    accounts: [
      { address: from.address, role: AccountRole.WRITABLE_SIGNER, signer: from },
      { address: to, role: AccountRole.WRITABLE },
    ],
    data,
  };
}

async function signedTransfer(from, to, amount) {
  const { value: blockhash } = await rpc.getLatestBlockhash({ commitment }).send();
  const message = pipe(
    createTransactionMessage({ version: 0 }),
    (draft) => setTransactionMessageFeePayerSigner(from, draft),
    (draft) => setTransactionMessageLifetimeUsingBlockhash(blockhash, draft),
    (draft) => appendTransactionMessageInstruction(transfer(from, to, amount), draft),
  );
  const transaction = await signTransactionMessageWithSigners(message);
  assertIsTransactionWithBlockhashLifetime(transaction);
  return { blockhash, transaction };
}

const balance = async (of) => (await rpc.getBalance(of, { commitment }).send()).value;

const [wallet, receiver] = [await generateKeyPairSigner(), await generateKeyPairSigner()];
await airdropFactory({ rpc, rpcSubscriptions })({ commitment, lamports: FUNDED, recipientAddress: wallet.address });
const funded = await balance(wallet.address);

const { blockhash, transaction } = await signedTransfer(wallet, receiver.address, SENT);
const signature = getSignatureFromTransaction(transaction);
await sendAndConfirm(transaction, { commitment });
const landed = await rpc
  .getTransaction(signature, { commitment, encoding: "jsonParsed", maxSupportedTransactionVersion: 0 })
  .send();
const {
  value: [status],
} = await rpc.getSignatureStatuses([signature]).send();

// More than is left: refused by the preflight, with the instruction's own error inside.
let refusal;
try {
  await sendAndConfirm((await signedTransfer(wallet, receiver.address, FUNDED)).transaction, { commitment });
} catch (error) {
  if (!isSolanaError(error, SOLANA_ERROR__JSON_RPC__SERVER_ERROR_SEND_TRANSACTION_PREFLIGHT_FAILURE)) throw error;
  refusal = {
    custom: isSolanaError(error.cause, SOLANA_ERROR__INSTRUCTION_ERROR__CUSTOM) ? error.cause.context.code : null,
    logs: error.context.logs,
  };
}

const account = await fetchEncodedAccount(rpc, receiver.address, { commitment });
const absent = await fetchEncodedAccount(rpc, (await generateKeyPairSigner()).address, { commitment });
const mint = await rpc.getAccountInfo(address(given.paymentMint), { commitment, encoding: "jsonParsed" }).send();

const answer = {
  wallet: wallet.address,
  receiver: receiver.address,
  blockhash,
  height: await rpc.getBlockHeight({ commitment }).send(),
  funded,
  left: await balance(wallet.address),
  received: await balance(receiver.address),
  signature,
  landed: { version: landed.version, fee: landed.meta.fee, err: landed.meta.err, slot: landed.slot },
  status: { err: status.err, slot: status.slot },
  refusal,
  account: {
    exists: account.exists,
    lamports: account.lamports,
    owner: account.programAddress,
    space: account.space,
    data: account.data.length,
  },
  absent: absent.exists,
  mint: mint.value.data.parsed,
};
const text = JSON.stringify(answer, (_, value) => (typeof value === "bigint" ? value.toString() : value));
process.stdout.write(text, () => process.exit(0));
