// One job of the renter on the node: opened by the renter, assigned by the matcher with the node's claim, paid by a running
// voucher (both sides by the precompile, anybody submits) and a final one (the meter submits).
import { BY_SUBMITTER, claimMessage, instructions, signatureCheck, systemProgram, tokenProgram, voucherMessage } from "./market.mjs";
import { bn } from "./session.mjs";
import { ALL_BPS } from "./stage.mjs";

const NONCE = 1n;
const MAX_TIME = 3_600_000n;
const TERMS = Array.from({ length: 32 }, (_, place) => 255 - place);
const DIGEST = Array.from({ length: 32 }, (_, place) => place);
const RUNNING = 1;
const FINAL = 3;
const COMPLETED = 1;

export async function job(session, people, place, { price, deposit, billed }) {
  const { at } = session;
  const { renter, matcher, meter, operator, delegator } = people;
  const { config, market, marketFees, cpu, classAccount, genesisHash, node, nodeKey, pool, poolFees } = place;
  const vault = at.vault(renter.key);
  const vaultTokens = at.vaultTokens(vault);
  const escrow = at.escrow(renter.key, renter.key, NONCE);
  const told = { escrow: escrow.toBase58() };

  await renter.send("openEscrow", [bn(NONCE), cpu, TERMS, bn(price), bn(deposit), bn(MAX_TIME), 1], {
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
  told.vault = await renter.read("vault", vault);
  told.open = await renter.read("escrow", escrow);

  const named = { programId: at.program, genesisHash, escrow, attempt: 1, node };
  const claimedAt = await session.chainTime();
  const claim = claimMessage({
    ...named,
    market,
    classId: cpu,
    pricePerHour: price,
    remainingMaxMs: MAX_TIME,
    remainingDeposit: deposit,
    termsHash: TERMS,
    feeBps: ALL_BPS,
    atMs: claimedAt,
  });
  await matcher.send(
    "assign",
    [bn(price), bn(MAX_TIME), bn(deposit), bn(claimedAt), 0],
    { matcher: matcher.key, config, market, escrow, allowance: null, node, pool, classAccount, instructions },
    { before: [signatureCheck(nodeKey, claim)] },
  );
  told.assigned = await matcher.read("escrow", escrow);
  const startedAt = BigInt(told.assigned.attempt.assigned_at);

  const settle = async (submitter, sequence, usage, state, reason, counterSignature) => {
    const atMs = startedAt + usage;
    const signed = voucherMessage({
      ...named,
      wallet: renter.key,
      sequence,
      startedAtMs: startedAt,
      atMs,
      billedMs: usage,
      amount: (price * usage) / 3_600_000n,
      state,
      reason,
      digest: DIGEST,
    });
    const before = [signatureCheck(nodeKey, signed)];
    if (counterSignature) before.push(signatureCheck(meter.keypair, signed));
    const voucher = {
      sequence: bn(sequence),
      startedAt: bn(startedAt),
      at: bn(atMs),
      billed: bn(usage),
      state,
      reason,
      digest: DIGEST,
      nodeApproval: 0,
      counterApproval: counterSignature ? 1 : BY_SUBMITTER,
    };
    const accounts = {
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
    };
    await submitter.send("settle", [1, voucher], accounts, { before });
  };
  await settle(delegator, 1, billed / 3n, RUNNING, 0, true);
  await settle(meter, 2, billed, FINAL, COMPLETED, false);
  told.closed = (await renter.program.account.escrow.fetchNullable(escrow, "confirmed")) === null;
  return told;
}
