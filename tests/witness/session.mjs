// One connection, the people who act over it by Anchor's client, and a record of what they sent.
import { AnchorProvider, BN, EventParser, parseIdlErrors, Program, ProgramError, Wallet, web3 } from "@coral-xyz/anchor";
import { Addresses } from "./market.mjs";
import { associated } from "./tokens.mjs";

const { Connection, Keypair, PublicKey, SendTransactionError, SYSVAR_CLOCK_PUBKEY, Transaction } = web3;

export const bn = (value) => new BN(value.toString(10), 10);
export const snake = (name) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

// Anchor's values in the plain form of tests/witness/values.py.
export function plain(value) {
  if (value instanceof PublicKey) return value.toBase58();
  if (BN.isBN(value)) return value.toString(10);
  if (typeof value === "number") return String(value);
  if (typeof value === "boolean" || typeof value === "string") return value;
  if (Array.isArray(value)) {
    return typeof value[0] === "number" ? Buffer.from(value).toString("hex") : value.map(plain);
  }
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [snake(name), plain(item)]));
}

export async function until(what, condition, limitMs = 40_000) {
  const end = performance.now() + limitMs;
  while (performance.now() < end) {
    const found = await condition();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`never came: ${what}`);
}

// Until the count reaches the goal, or has not grown for so long.
export async function grown(count, goal, silenceMs = 20_000) {
  let [seen, since] = [count(), performance.now()];
  while (count() < goal && performance.now() - since < silenceMs) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    if (count() > seen) [seen, since] = [count(), performance.now()];
  }
}

export class Session {
  constructor({ idl, rpc, ws, program }) {
    this.connection = new Connection(rpc, { wsEndpoint: ws, commitment: "confirmed" });
    this.idl = { ...idl, address: program };
    this.at = new Addresses(new PublicKey(program));
    this.mints = { payment: Keypair.generate(), stake: Keypair.generate() };
    this.sent = [];
    this.errors = {};
  }

  actor = (keypair = Keypair.generate()) => new Actor(this, keypair);

  // The Clock sysvar's last field, in milliseconds: the program's own clock.
  async chainTime() {
    const { data } = await this.connection.getAccountInfo(SYSVAR_CLOCK_PUBKEY, "confirmed");
    return Number(data.readBigInt64LE(32)) * 1_000;
  }

  async tokens(account) {
    const { value } = await this.connection.getTokenAccountBalance(account, "confirmed");
    return BigInt(value.amount);
  }

  // The events in the logs of everything that was sent, as Anchor's parser takes them out.
  async logged(program) {
    const parser = new EventParser(this.at.program, program.coder);
    const events = [];
    for (const { method, signature } of this.sent) {
      const found = await until(method, () =>
        this.connection.getTransaction(signature, { commitment: "confirmed", maxSupportedTransactionVersion: 0 }),
      );
      if (found.meta.err !== null) throw new Error(`${method}: ${JSON.stringify(found.meta.err)}`);
      for (const { name, data } of parser.parseLogs(found.meta.logMessages)) {
        events.push({ method, signature, slot: found.slot, name: name[0].toUpperCase() + name.slice(1), data: plain(data) });
      }
    }
    return events;
  }
}

// Whoever acts: a key of its own, its own provider, its own Program.
class Actor {
  constructor(session, keypair) {
    this.session = session;
    this.keypair = keypair;
    this.key = keypair.publicKey;
    const options = { commitment: "confirmed", preflightCommitment: "confirmed" };
    this.program = new Program(session.idl, new AnchorProvider(session.connection, new Wallet(keypair), options));
  }

  payment = () => associated(this.key, this.session.mints.payment.publicKey);
  stake = () => associated(this.key, this.session.mints.stake.publicKey);

  async fund() {
    const { connection } = this.session;
    const signature = await connection.requestAirdrop(this.key, 10 * web3.LAMPORTS_PER_SOL);
    await connection.confirmTransaction({ signature, ...(await connection.getLatestBlockhash()) });
  }

  // Instructions of the system and token programs.
  pay = (steps, signers) => this.program.provider.sendAndConfirm(new Transaction().add(...steps), signers);

  // Sends an instruction by Anchor's method builder and waits until it is confirmed.
  async send(method, args, accounts, { before = [], signers = [] } = {}) {
    const builder = this.program.methods[method](...args).accountsStrict(accounts);
    const signature = await builder.preInstructions(before).signers(signers).rpc({ commitment: "confirmed" });
    this.session.sent.push({ method: snake(method), signature });
  }

  // Notes how Anchor translates the program's error, by the IDL. It gets web3.js's message without the logs: anchor 0.32
  // looks for the number in a text in which web3.js writes it twice where there are logs, and gives up (on every cluster).
  async refused(what, method, args, accounts) {
    try {
      await this.program.methods[method](...args).accountsStrict(accounts).rpc({ commitment: "confirmed" });
    } catch (error) {
      if (!(error instanceof SendTransactionError)) throw error;
      const { code, msg } = ProgramError.parse(error.transactionError.message, parseIdlErrors(this.session.idl));
      this.session.errors[what] = { code, message: msg };
      return;
    }
    throw new Error(`${method} was not refused`);
  }

  // An account as Anchor's client reads it.
  read = async (kind, address) => plain(await this.program.account[kind].fetch(address, "confirmed"));
}
