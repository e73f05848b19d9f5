// A renter, an operator, a market and a delegator who use @coral-xyz/anchor alone: its Program over web3.js's Connection.
//
// In:  {idl, rpc, ws, program, amounts} as JSON on standard input. The chain has the program and an airdrop; the mints are
// made here, so that it may be any chain.
// Out: what accounts held and events said, as Anchor's client read them, for test_clients.py to judge.
import { readFileSync } from "node:fs";
import { job } from "./job.mjs";
import { systemProgram, tokenProgram } from "./market.mjs";
import { administer, allow, changeOfMind, operate } from "./offices.mjs";
import { bn, grown, plain, Session, until } from "./session.mjs";
import { cast, params, setUp } from "./stage.mjs";

const given = JSON.parse(readFileSync(0, "utf8"));
const amounts = Object.fromEntries(Object.entries(given.amounts).map(([name, value]) => [name, BigInt(value)]));
const session = new Session(given);
const { at } = session;
const people = cast(session);
const { admin, renter, delegator } = people;

// What the logs subscription tells; compared in the end with the transactions' own logs. It stands before anything else
// is sent: the funding waits for signatures on the same socket, behind it.
// A validator under load tells an event of a slot that it then drops, and again with the slot that stays: once is kept,
// with every slot that it was told for.
const told = new Map();
const listeners = given.idl.events.map(({ name }) =>
  admin.program.addEventListener(name[0].toLowerCase() + name.slice(1), (data, slot, signature) => {
    const event = { signature, name, data: plain(data) };
    const key = JSON.stringify(event);
    told.set(key, { ...event, slots: [...(told.get(key)?.slots ?? []), slot] });
  }),
);

const place = await setUp(session, people, amounts);
const { config, market, node, pool, poolStake, poolFees } = place;

// A renter with a vault.
const vault = at.vault(renter.key);
const vaultTokens = at.vaultTokens(vault);
await renter.send("openVault", [], {
  payer: renter.key,
  wallet: renter.key,
  config,
  vault,
  vaultTokens,
  paymentMint: place.paymentMint,
  tokenProgram,
  systemProgram,
});
const depositing = { depositor: renter.key, vault, source: renter.payment(), vaultTokens, tokenProgram };
const simulated = await renter.program.methods
  .deposit(bn(amounts.deposit))
  .accountsStrict(depositing)
  .simulate({ commitment: "confirmed" });
await renter.send("deposit", [bn(amounts.deposit)], depositing);
await renter.refused("deposit_of_nothing", "deposit", [bn(0)], depositing);

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
await delegator.send("delegate", [bn(amounts.delegated)], delegation);
await delegator.refused("delegate_nothing", "delegate", [bn(0)], delegation);
const poolBefore = await delegator.read("pool", pool);

// The node earns; the renter takes the rest.
const played = await job(session, people, place, amounts);
const left = await session.tokens(vaultTokens);
const extended = await changeOfMind(session, people, place, amounts);
const allowance = await allow(session, people, place);
await renter.send("withdraw", [bn(left)], {
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
const paymentBefore = await session.tokens(delegator.payment());
await delegator.send("claim", [], earning);
const claimed = (await session.tokens(delegator.payment())) - paymentBefore;
await delegator.refused("claim_nothing", "claim", [], earning);
const shares = BigInt((await delegator.read("position", position)).shares);

// Out again: half behind a ticket of an hour, the rest, under shorter windows, behind one of two seconds.
const unbonding = (ticket) => ({ owner: delegator.key, config, pool, position, ticket, systemProgram });
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
const [long, short] = [at.ticket(position, 0n), at.ticket(position, 1n)];
await delegator.refused("unbond_too_much", "unbond", [bn(shares + 1n)], unbonding(long));
await delegator.send("unbond", [bn(shares / 2n)], unbonding(long));
await delegator.refused("withdraw_early", "withdrawTicket", [], withdrawal(long));
await admin.send("setParams", [{ ...params, unbonding: bn(2_000) }], { admin: admin.key, config });
await delegator.send("unbond", [bn(shares - shares / 2n)], unbonding(short));
const tickets = (await delegator.program.account.ticket.fetchMultiple([long, short], "confirmed")).map(plain);
await until("the unlocking", async () => (await session.chainTime()) >= Number(tickets[1].unlock_at));
const stakeBefore = await session.tokens(delegator.stake());
await delegator.send("withdrawTicket", [], withdrawal(short));
const withdrawn = (await session.tokens(delegator.stake())) - stakeBefore;

await operate(session, people, place, amounts);
await administer(session, people, place);

const logged = await session.logged(admin.program);
// Who waits in vain has the comparison say which are missing: a validator under load drops notices.
await until("all events by subscription", () => told.size >= logged.length).catch(() => undefined);
await Promise.all(listeners.map((listener) => admin.program.removeEventListener(listener)));

const addresses = {
  allowance: at.allowance(renter.key, market),
  class: place.classAccount,
  config,
  market,
  node,
  pool,
  position,
  ticket: long,
  vault,
};
const accounts = {};
for (const [kind, address] of Object.entries(addresses)) {
  accounts[kind] = { address: address.toBase58(), value: await admin.read(kind, address) };
}
// offset 8 + 2 + 32: the owner, behind discriminator, version, bump and pool
const owned = await delegator.program.account.position.all([
  { memcmp: { offset: 42, bytes: delegator.key.toBase58() } },
]);

const answer = {
  keys: Object.fromEntries(Object.entries(people).map(([name, { key }]) => [name, key.toBase58()])),
  accounts,
  job: played,
  extended,
  allowance,
  left,
  pool: poolBefore,
  position: position.toBase58(),
  simulated: simulated.events.map(({ name, data }) => ({ name, data: plain(data) })),
  shares,
  claimed,
  tickets,
  withdrawn,
  owned: owned.map(({ publicKey }) => publicKey.toBase58()),
  sent: session.sent,
  errors: session.errors,
  logged,
  told: [...told.values()],
};
const text = JSON.stringify(answer, (_, value) => (typeof value === "bigint" ? value.toString() : value));
// the connection's socket would keep the process alive
process.stdout.write(text, () => process.exit(0));
