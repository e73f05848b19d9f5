// A renter, an operator, a market and a delegator who use @coral-xyz/anchor alone: its Program over web3.js's Connection.
//
// In:  {idl, rpc, ws, program, amounts} as JSON on standard input. The chain has the program and an airdrop; the mints are
// made here, so that it may be any chain.
// Out: what every account held and every event said, as Anchor's client read them, for test_clients.py to judge.
import { readFileSync } from "node:fs";
import { AnchorProvider, BN, EventParser, parseIdlErrors, Program, ProgramError, utils, Wallet, web3 } from "@coral-xyz/anchor";
import {
  Addresses,
  BY_SUBMITTER,
  claimMessage,
  classId,
  instructions,
  localAdmin,
  signatureCheck,
  systemProgram,
  tokenProgram,
  voucherMessage,
} from "./market.mjs";
import { associated, MINT_BYTES, newMint, newTokens } from "./tokens.mjs";

const { Connection, Keypair, PublicKey } = web3;
const UPGRADEABLE_LOADER = new PublicKey("BPFLoaderUpgradeab1e11111111111111111111111");
const given = JSON.parse(readFileSync(0, "utf8"));
const amounts = Object.fromEntries(Object.entries(given.amounts).map(([name, value]) => [name, BigInt(value)]));

const connection = new Connection(given.rpc, { wsEndpoint: given.ws, commitment: "confirmed" });
const [paymentMint, stakeMint] = [Keypair.generate(), Keypair.generate()];
const idl = { ...given.idl, address: given.program };
const at = new Addresses(new PublicKey(given.program));

const bn = (value) => new BN(value.toString(10), 10);

// Anchor's values in the plain form of tests/witness/values.py.
function plain(value) {
  if (value instanceof PublicKey) return value.toBase58();
  if (BN.isBN(value)) return value.toString(10);
  if (typeof value === "number") return String(value);
  if (typeof value === "boolean" || typeof value === "string") return value;
  if (Array.isArray(value)) {
    return typeof value[0] === "number" ? Buffer.from(value).toString("hex") : value.map(plain);
  }
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [snake(name), plain(item)]));
}
const snake = (name) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

async function until(what, condition, limitMs = 40_000) {
  const end = performance.now() + limitMs;
  while (performance.now() < end) {
    const found = await condition();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`never came: ${what}`);
}

// Whoever acts: a key of its own, its own provider, its own Program.
class Actor {
  constructor(keypair = Keypair.generate()) {
    this.keypair = keypair;
    this.key = keypair.publicKey;
    const options = { commitment: "confirmed", preflightCommitment: "confirmed" };
    this.program = new Program(idl, new AnchorProvider(connection, new Wallet(keypair), options));
  }

  payment = () => associated(this.key, paymentMint.publicKey);
  stake = () => associated(this.key, stakeMint.publicKey);

  async fund() {
    const signature = await connection.requestAirdrop(this.key, 10 * web3.LAMPORTS_PER_SOL);
    await connection.confirmTransaction({ signature, ...(await connection.getLatestBlockhash()) });
  }

  // Outside of the program: instructions of the system and token programs.
  send = (steps, signers) => this.program.provider.sendAndConfirm(new web3.Transaction().add(...steps), signers);
}

const sent = [];

// Sends an instruction by Anchor's method builder and waits until it is confirmed.
async function send(actor, method, args, accounts, { before = [], signers = [] } = {}) {
  const builder = actor.program.methods[method](...args).accountsStrict(accounts).preInstructions(before).signers(signers);
  const signature = await builder.rpc({ commitment: "confirmed" });
  sent.push({ method: snake(method), signature });
  return signature;
}

// How Anchor translates the program's error, by the IDL. It gets web3.js's message without the logs: anchor 0.32 looks for
// the number in a text in which web3.js writes it twice where there are logs, and gives up (on every cluster).
async function refused(actor, method, args, accounts) {
  try {
    await actor.program.methods[method](...args).accountsStrict(accounts).rpc({ commitment: "confirmed" });
  } catch (error) {
    if (!(error instanceof web3.SendTransactionError)) throw error;
    const { code, msg } = ProgramError.parse(error.transactionError.message, parseIdlErrors(idl));
    return { code, message: msg };
  }
  throw new Error(`${method} was not refused`);
}

// The Clock sysvar's last field, in milliseconds: the program's own clock.
async function chainTime() {
  const { data } = await connection.getAccountInfo(web3.SYSVAR_CLOCK_PUBKEY, "confirmed");
  return Number(data.readBigInt64LE(32)) * 1_000;
}
const tokens = async (account) => (await connection.getTokenAccountBalance(account, "confirmed")).value.amount;

// Windows of a chain for tests: wide, so that a slow machine changes nothing; vouchers may run ahead of the clock, so that
// nobody has to wait for usage.
const params = {
  exposureRate: bn(1_000_000),
  exposureMultiple: 10,
  protocolBps: 100,
  maxMarketBps: 2_000,
  nodeShareBps: 5_000,
  compensationBps: 2_000,
  overclaimBps: 2_000,
  slashCapBps: 5_000,
  decayBps: 10,
  emissionCapBps: 10_000,
  commissionStepBps: 500,
  lostAfter: bn(3_600_000),
  readyLimit: bn(3_600_000),
  claimLimit: bn(3_600_000),
  skew: bn(3_600_000),
  contest: bn(1_000),
  reapGrace: bn(60_000),
  queueLimit: bn(3_600_000),
  stopAfter: bn(10_000),
  unbonding: bn(3_600_000),
  commissionDelay: bn(60_000),
  feeDelay: bn(60_000),
  minimumDeposit: bn(1_000),
};

const admin = new Actor(localAdmin());
const [authority, matcher, meter, operator, renter, delegator] = Array.from({ length: 6 }, () => new Actor());
const nodeKey = Keypair.generate();
// What the logs subscription tells; compared in the end with the transactions' own logs. It stands before anything else
// is sent: the funding waits for signatures on the same socket, behind it.
const told = [];
const listeners = given.idl.events.map(({ name }) =>
  admin.program.addEventListener(name[0].toLowerCase() + name.slice(1), (data, slot, signature) => {
    told.push({ signature, slot, name, data: plain(data) });
  }),
);

const actors = [admin, authority, matcher, meter, operator, renter, delegator];
await Promise.all(actors.map((actor) => actor.fund()));

// Two mints, and some of both for everybody.
const mintRent = await connection.getMinimumBalanceForRentExemption(MINT_BYTES);
for (const mint of [paymentMint, stakeMint]) {
  await admin.send(newMint(mint.publicKey, admin.key, 6, mintRent), [mint]);
}
await Promise.all(
  actors.map((actor) =>
    admin.send([
      ...newTokens(paymentMint.publicKey, actor.key, admin.key, amounts.deposit),
      ...newTokens(stakeMint.publicKey, actor.key, admin.key, amounts.bond + amounts.delegated),
    ]),
  ),
);

// The deployment and its market.
const config = at.config();
const cpu = classId("cpu-small");
const classAccount = at.class(cpu);
const market = at.market(authority.key);
const marketFees = at.marketFees(market);
const { owner: loader } = await connection.getAccountInfo(at.program);
const upgradeable = loader.equals(UPGRADEABLE_LOADER);
const genesisHash = [...utils.bytes.bs58.decode(await connection.getGenesisHash())];
await send(admin, "initialize", [genesisHash, params, bn(1_000), bn(0)], {
  payer: admin.key,
  authority: admin.key,
  config,
  paymentMint: paymentMint.publicKey,
  stakeMint: stakeMint.publicKey,
  protocolToken: admin.payment(),
  compensationVault: at.compensation(),
  emissionVault: at.emission(),
  program: at.program,
  programData: upgradeable ? PublicKey.findProgramAddressSync([at.program.toBuffer()], loader)[0] : null,
  tokenProgram,
  systemProgram,
});
await send(admin, "setClass", [cpu, bn(amounts.bond), true], {
  payer: admin.key,
  admin: admin.key,
  config,
  classAccount,
  systemProgram,
});
await send(authority, "registerMarket", [matcher.key, meter.key, 400], {
  payer: authority.key,
  authority: authority.key,
  config,
  market,
  marketFees,
  paymentMint: paymentMint.publicKey,
  tokenProgram,
  systemProgram,
});

// A node.
const node = at.node(nodeKey.publicKey);
const pool = at.pool(node);
const [poolStake, poolFees] = [at.poolStake(pool), at.poolFees(pool)];
await send(
  operator,
  "registerNode",
  [bn(amounts.bond), 1_000],
  {
    operator: operator.key,
    nodeKey: nodeKey.publicKey,
    config,
    market,
    classAccount,
    node,
    pool,
    position: at.position(pool, operator.key),
    poolStake,
    poolFees,
    payout: operator.payment(),
    stakeSource: operator.stake(),
    paymentMint: paymentMint.publicKey,
    stakeMint: stakeMint.publicKey,
    tokenProgram,
    systemProgram,
  },
  { signers: [nodeKey] },
);

// A renter with a vault.
const vault = at.vault(renter.key);
const vaultTokens = at.vaultTokens(vault);
await send(renter, "openVault", [], {
  payer: renter.key,
  wallet: renter.key,
  config,
  vault,
  vaultTokens,
  paymentMint: paymentMint.publicKey,
  tokenProgram,
  systemProgram,
});
const depositAccounts = { depositor: renter.key, vault, source: renter.payment(), vaultTokens, tokenProgram };
const simulated = await renter.program.methods
  .deposit(bn(amounts.deposit))
  .accountsStrict(depositAccounts)
  .simulate({ commitment: "confirmed" });
await send(renter, "deposit", [bn(amounts.deposit)], depositAccounts);
const errors = { deposit_of_nothing: await refused(renter, "deposit", [bn(0)], depositAccounts) };

// A delegator.
const position = at.position(pool, delegator.key);
const delegation = {
  owner: delegator.key,
  config,
  node,
  pool,
  position,
  stakeSource: delegator.stake(),
  poolStake,
  tokenProgram,
  systemProgram,
};
await send(delegator, "delegate", [bn(amounts.delegated)], delegation);
errors.delegate_nothing = await refused(delegator, "delegate", [bn(0)], delegation);
const poolBefore = plain(await delegator.program.account.pool.fetch(pool, "confirmed"));

// One job, so that the pool has earned: opened by the renter, assigned by the matcher with the node's claim, paid by a
// running voucher (both sides by the precompile, anybody submits) and a final one (the meter submits).
const nonce = 1n;
const escrow = at.escrow(renter.key, renter.key, nonce);
const termsHash = Array.from({ length: 32 }, (_, place) => 255 - place);
const maxTime = 3_600_000n;
await send(renter, "openEscrow", [bn(nonce), cpu, termsHash, bn(amounts.price), bn(amounts.deposit), bn(maxTime), 1], {
  payer: renter.key,
  authority: renter.key,
  config,
  market,
  vault,
  vaultTokens,
  allowance: null,
  escrow,
  systemProgram,
});
const lockedVault = plain(await renter.program.account.vault.fetch(vault, "confirmed"));
const openEscrow = plain(await renter.program.account.escrow.fetch(escrow, "confirmed"));

const claimedAt = await chainTime();
const claim = claimMessage({
  programId: at.program,
  genesisHash,
  escrow,
  attempt: 1,
  market,
  node,
  classId: cpu,
  pricePerHour: amounts.price,
  remainingMaxMs: maxTime,
  remainingDeposit: amounts.deposit,
  termsHash,
  feeBps: 500,
  atMs: claimedAt,
});
await send(
  matcher,
  "assign",
  [bn(amounts.price), bn(maxTime), bn(amounts.deposit), bn(claimedAt), 0],
  {
    matcher: matcher.key,
    config,
    market,
    escrow,
    allowance: null,
    node,
    pool,
    classAccount,
    instructions,
  },
  { before: [signatureCheck(nodeKey, claim)] },
);
const { attempt } = await matcher.program.account.escrow.fetch(escrow, "confirmed");
const startedAt = BigInt(attempt.assignedAt.toString(10));

const digest = Array.from({ length: 32 }, (_, place) => place);
function voucher(sequence, billed, state, reason) {
  const atMs = startedAt + billed;
  const amount = (amounts.price * billed) / 3_600_000n;
  const signed = voucherMessage({
    programId: at.program,
    genesisHash,
    escrow,
    attempt: 1,
    wallet: renter.key,
    node,
    sequence,
    startedAtMs: startedAt,
    atMs,
    billedMs: billed,
    amount,
    state,
    reason,
    digest,
  });
  const args = (counterApproval) => ({
    sequence: bn(sequence),
    startedAt: bn(startedAt),
    at: bn(atMs),
    billed: bn(billed),
    state,
    reason,
    digest,
    nodeApproval: 0,
    counterApproval,
  });
  return { signed, args };
}
const settlement = (submitter) => ({
  submitter: submitter.key,
  config,
  market,
  marketFees,
  escrow,
  vault,
  vaultTokens,
  allowance: null,
  node,
  pool,
  poolFees,
  payout: operator.payment(),
  rentPayer: renter.key,
  instructions,
  tokenProgram,
});
const running = voucher(1, amounts.billed / 3n, 1, 0);
await send(delegator, "settle", [1, running.args(1)], settlement(delegator), {
  before: [signatureCheck(nodeKey, running.signed), signatureCheck(meter.keypair, running.signed)],
});
const final = voucher(2, amounts.billed, 3, 1);
await send(meter, "settle", [1, final.args(BY_SUBMITTER)], settlement(meter), {
  before: [signatureCheck(nodeKey, final.signed)],
});
const closedEscrow = await renter.program.account.escrow.fetchNullable(escrow, "confirmed");
const vaultLeft = await tokens(vaultTokens);
await send(renter, "withdraw", [bn(vaultLeft)], {
  wallet: renter.key,
  vault,
  vaultTokens,
  destination: renter.payment(),
  tokenProgram,
});

// What the delegator has earned.
const earning = {
  owner: delegator.key,
  pool,
  position,
  poolFees,
  poolStake,
  paymentDestination: delegator.payment(),
  stakeDestination: delegator.stake(),
  rentPayer: delegator.key,
  tokenProgram,
};
const paymentBefore = await tokens(delegator.payment());
await send(delegator, "claim", [], earning);
const paymentAfter = await tokens(delegator.payment());
errors.claim_nothing = await refused(delegator, "claim", [], earning);
const claimedPosition = plain(await delegator.program.account.position.fetch(position, "confirmed"));

// Out again: half behind a ticket of an hour, the rest, under shorter windows, behind one of two seconds.
const ticketAccounts = (ticket) => ({ owner: delegator.key, config, pool, position, ticket, systemProgram });
const withdrawal = (ticket) => ({
  owner: delegator.key,
  pool,
  position,
  ticket,
  poolStake,
  destination: delegator.stake(),
  rentPayer: delegator.key,
  tokenProgram,
});
const shares = BigInt(claimedPosition.shares);
const [long, short] = [at.ticket(position, 0n), at.ticket(position, 1n)];
errors.unbond_too_much = await refused(delegator, "unbond", [bn(shares + 1n)], ticketAccounts(long));
await send(delegator, "unbond", [bn(shares / 2n)], ticketAccounts(long));
errors.withdraw_early = await refused(delegator, "withdrawTicket", [], withdrawal(long));
await send(admin, "setParams", [{ ...params, unbonding: bn(2_000) }], { admin: admin.key, config });
await send(delegator, "unbond", [bn(shares - shares / 2n)], ticketAccounts(short));
const tickets = (await delegator.program.account.ticket.fetchMultiple([long, short], "confirmed")).map(plain);
await until("the unlocking", async () => (await chainTime()) >= Number(tickets[1].unlock_at));
const stakeBefore = await tokens(delegator.stake());
await send(delegator, "withdrawTicket", [], withdrawal(short));
const stakeAfter = await tokens(delegator.stake());

// Everything the transactions' own logs say, and that the subscription has told the same.
const parser = new EventParser(at.program, admin.program.coder);
const logged = [];
for (const { method, signature } of sent) {
  const found = await until(method, () =>
    connection.getTransaction(signature, { commitment: "confirmed", maxSupportedTransactionVersion: 0 }),
  );
  if (found.meta.err !== null) throw new Error(`${method}: ${JSON.stringify(found.meta.err)}`);
  for (const { name, data } of parser.parseLogs(found.meta.logMessages)) {
    logged.push({ method, signature, slot: found.slot, name: name[0].toUpperCase() + name.slice(1), data: plain(data) });
  }
}
await until("all events by subscription", () => told.length >= logged.length);
await Promise.all(listeners.map((listener) => admin.program.removeEventListener(listener)));

const accounts = {};
for (const [name, address] of Object.entries({
  config,
  class: classAccount,
  market,
  node,
  pool,
  vault,
  position,
  ticket: long,
})) {
  accounts[name] = {
    address: address.toBase58(),
    value: plain(await admin.program.account[name].fetch(address, "confirmed")),
  };
}
// offset 8 + 2 + 32: the owner, behind discriminator, version, bump and pool
const owned = await delegator.program.account.position.all([
  { memcmp: { offset: 42, bytes: delegator.key.toBase58() } },
]);

const answer = {
  keys: {
    admin: admin.key,
    operator: operator.key,
    renter: renter.key,
    delegator: delegator.key,
    meter: meter.key,
    node,
    pool,
    position,
    escrow,
  },
  accounts,
  escrow: { open: openEscrow, closed: closedEscrow === null },
  vault: { locked: lockedVault, left: vaultLeft },
  pool: { before: poolBefore },
  simulated: simulated.events.map(({ name, data }) => ({ name, data: plain(data) })),
  claimed: { payment: (BigInt(paymentAfter) - BigInt(paymentBefore)).toString() },
  tickets,
  shares,
  withdrawn: { stake: (BigInt(stakeAfter) - BigInt(stakeBefore)).toString() },
  owned: owned.map(({ publicKey }) => publicKey.toBase58()),
  sent,
  logged,
  told,
  errors,
};
const text = JSON.stringify(answer, (_, value) => (typeof value === "bigint" ? value.toString() : value));
// the connection's socket would keep the process alive
process.stdout.write(text, () => process.exit(0));
