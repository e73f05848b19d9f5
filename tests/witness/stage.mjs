// What has to be there before anybody can play: mints, a deployment, a class, a market, a node.
import { utils, web3 } from "@coral-xyz/anchor";
import { classId, localAdmin, systemProgram, tokenProgram } from "./market.mjs";
import { bn } from "./session.mjs";
import { MINT_BYTES, newMint, newTokens } from "./tokens.mjs";

const { Keypair, PublicKey } = web3;
const UPGRADEABLE_LOADER = new PublicKey("BPFLoaderUpgradeab1e11111111111111111111111");

export const COMMISSION_BPS = 1_000;
export const MARKET_BPS = 400;
export const ALL_BPS = 500;

// Windows of a chain for tests: wide, so that a slow machine changes nothing; vouchers may run ahead of the clock, so that
// nobody has to wait for usage.
export const params = {
  exposureRate: bn(1_000_000),
  exposureMultiple: 10,
  protocolBps: ALL_BPS - MARKET_BPS,
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

export function cast(session) {
  const people = { admin: session.actor(localAdmin()) };
  for (const name of ["authority", "matcher", "meter", "operator", "renter", "delegator"]) people[name] = session.actor();
  return people;
}

// Two mints, and some of both for everybody.
async function fund(session, people, amounts) {
  const { admin } = people;
  const everybody = Object.values(people);
  await Promise.all(everybody.map((actor) => actor.fund()));
  const { payment, stake } = session.mints;
  const rent = await session.connection.getMinimumBalanceForRentExemption(MINT_BYTES);
  for (const mint of [payment, stake]) await admin.pay(newMint(mint.publicKey, admin.key, 6, rent), [mint]);
  await Promise.all(
    everybody.map(({ key }) =>
      admin.pay([
        ...newTokens(payment.publicKey, key, admin.key, amounts.deposit),
        ...newTokens(stake.publicKey, key, admin.key, amounts.bond + amounts.delegated),
      ]),
    ),
  );
}

async function deploy(session, { admin, authority, matcher, meter }, amounts) {
  const { at, connection, mints } = session;
  const config = at.config();
  const cpu = classId("cpu-small");
  const classAccount = at.class(cpu);
  const market = at.market(authority.key);
  const marketFees = at.marketFees(market);
  const paymentMint = mints.payment.publicKey;
  const { owner: loader } = await connection.getAccountInfo(at.program);
  const upgradeable = loader.equals(UPGRADEABLE_LOADER);
  const genesisHash = [...utils.bytes.bs58.decode(await connection.getGenesisHash())];
  await admin.send("initialize", [genesisHash, params, bn(1_000), bn(0)], {
    payer: admin.key,
    authority: admin.key,
    config,
    paymentMint,
    stakeMint: mints.stake.publicKey,
    protocolToken: admin.payment(),
    compensationVault: at.compensation(),
    emissionVault: at.emission(),
    program: at.program,
    programData: upgradeable ? PublicKey.findProgramAddressSync([at.program.toBuffer()], loader)[0] : null,
    tokenProgram,
    systemProgram,
  });
  await admin.send("setClass", [cpu, bn(amounts.bond), true], {
    payer: admin.key,
    admin: admin.key,
    config,
    classAccount,
    systemProgram,
  });
  await authority.send("registerMarket", [matcher.key, meter.key, MARKET_BPS], {
    payer: authority.key,
    authority: authority.key,
    config,
    market,
    marketFees,
    paymentMint,
    tokenProgram,
    systemProgram,
  });
  return { genesisHash, config, cpu, classAccount, market, marketFees, paymentMint };
}

async function register(session, { operator }, place, amounts) {
  const { at, mints } = session;
  const nodeKey = Keypair.generate();
  const node = at.node(nodeKey.publicKey);
  const pool = at.pool(node);
  const bondPosition = at.position(pool, operator.key);
  const [poolStake, poolFees] = [at.poolStake(pool), at.poolFees(pool)];
  await operator.send(
    "registerNode",
    [bn(amounts.bond), COMMISSION_BPS],
    {
      operator: operator.key,
      nodeKey: nodeKey.publicKey,
      config: place.config,
      market: place.market,
      classAccount: place.classAccount,
      node,
      pool,
      position: bondPosition,
      poolStake,
      poolFees,
      payout: operator.payment(),
      stakeSource: operator.stake(),
      paymentMint: place.paymentMint,
      stakeMint: mints.stake.publicKey,
      tokenProgram,
      systemProgram,
    },
    { signers: [nodeKey] },
  );
  return { nodeKey, node, pool, bondPosition, poolStake, poolFees };
}

// The addresses of everything that everybody needs.
export async function setUp(session, people, amounts) {
  await fund(session, people, amounts);
  const place = await deploy(session, people, amounts);
  return { ...place, ...(await register(session, people, place, amounts)) };
}
