// What the operator, the market, the admin and the renter can do besides: the rest that needs no waiting for an epoch.
import { systemProgram, tokenProgram } from "./market.mjs";
import { bn } from "./session.mjs";
import { COMMISSION_BPS, MARKET_BPS } from "./stage.mjs";

export async function operate(session, { operator }, place, { bond }) {
  const { at } = session;
  const { config, node, classAccount, pool, bondPosition: position, poolStake } = place;
  const held = { operator: operator.key, config, node, pool, position };
  await operator.send("bond", [bn(bond / 10n)], { ...held, stakeSource: operator.stake(), poolStake, tokenProgram });
  const ticket = at.ticket(position, 0n);
  await operator.send("unbondBond", [bn(bond / 10n)], { ...held, classAccount, ticket, systemProgram });
  await operator.send("setCommission", [COMMISSION_BPS + 500], { operator: operator.key, config, node, pool });
  await operator.refused("commission_leap", "setCommission", [COMMISSION_BPS + 501], {
    operator: operator.key,
    config,
    node,
    pool,
  });
  await operator.send("drain", [true], { operator: operator.key, node });
  await operator.send("drain", [false], { operator: operator.key, node });
}

export async function administer(session, { admin, authority, matcher, meter, delegator }, place) {
  const { config, market, marketFees, node } = place;
  const office = { authority: authority.key, market };
  await authority.send("setFee", [MARKET_BPS + 100], { ...office, config });
  await authority.send("withdrawFees", [], { ...office, marketFees, destination: authority.payment(), tokenProgram });
  await delegator.send("sweepProtocolFees", [], {
    submitter: delegator.key,
    config,
    market,
    marketFees,
    protocolToken: admin.payment(),
    tokenProgram,
  });
  await authority.send("rotateKeys", [meter.key, matcher.key], office);
  await authority.send("suspendNode", [true], { ...office, node });
  await authority.send("suspendNode", [false], { ...office, node });
  await admin.send("setPause", [1], { admin: admin.key, config });
  await admin.send("setPause", [0], { admin: admin.key, config });
  await admin.send("proposeAdmin", [authority.key], { admin: admin.key, config });
  await admin.refused("accept_for_another", "acceptAdmin", [], { candidate: admin.key, config });
  await authority.send("acceptAdmin", [], { candidate: authority.key, config });
}

export async function allow(session, { renter, authority }, { config, market }) {
  const allowance = session.at.allowance(renter.key, market);
  await renter.send("grantAllowance", [bn(10n ** 6n), bn(10n ** 7n), bn(10n ** 12n), bn(2n ** 64n - 1n), bn(2n ** 62n)], {
    payer: renter.key,
    wallet: renter.key,
    config,
    market,
    allowance,
    systemProgram,
  });
  const granted = await authority.read("allowance", allowance);
  await renter.send("revokeAllowance", [], { wallet: renter.key, allowance });
  return granted;
}

// A second escrow, that nobody takes: extended, then cancelled.
export async function changeOfMind(session, { renter }, { config, market, cpu }, { price, deposit }) {
  const { at } = session;
  const vault = at.vault(renter.key);
  const vaultTokens = at.vaultTokens(vault);
  const nonce = 2n;
  const escrow = at.escrow(renter.key, renter.key, nonce);
  const terms = Array.from({ length: 32 }, () => 7);
  const common = { config, market, escrow, vault, allowance: null };
  await renter.send("openEscrow", [bn(nonce), cpu, terms, bn(price), bn(deposit / 4n), bn(1_000), 1], {
    ...common,
    payer: renter.key,
    authority: renter.key,
    vaultTokens,
    systemProgram,
  });
  await renter.send("extendEscrow", [bn(deposit / 8n), bn(500)], {
    ...common,
    opener: renter.key,
    vaultTokens,
    node: null,
    pool: null,
  });
  const extended = await renter.read("escrow", escrow);
  await renter.send("cancelEscrow", [], { ...common, authority: renter.key, rentPayer: renter.key });
  return extended;
}
