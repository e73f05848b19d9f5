// The program's addresses and the two signed messages, written from docs/program.md and docs/vouchers.md alone.
import { createHash } from "node:crypto";
import { utils, web3 } from "@coral-xyz/anchor";

const { PublicKey, Ed25519Program, SystemProgram, SYSVAR_INSTRUCTIONS_PUBKEY } = web3;

export const systemProgram = SystemProgram.programId;
export const tokenProgram = utils.token.TOKEN_PROGRAM_ID;
export const instructions = SYSVAR_INSTRUCTIONS_PUBKEY;
export const BY_SUBMITTER = 255;

const sha256 = (...parts) => createHash("sha256").update(Buffer.concat(parts)).digest();

const number = (width) => (value) => {
  const bytes = Buffer.alloc(width);
  for (let rest = BigInt.asUintN(8 * width, BigInt(value)), at = 0; at < width; at += 1, rest >>= 8n) {
    bytes[at] = Number(rest & 0xffn);
  }
  return bytes;
};
const [u8, u16, u32, u64] = [1, 2, 4, 8].map(number);
const bytesOf = (value) => (value instanceof PublicKey ? value.toBuffer() : Buffer.from(value));

export const localAdmin = () => web3.Keypair.fromSeed(sha256(Buffer.from("reaver-market/localnet/admin")));

export const classId = (name) => [...Buffer.from(name.padEnd(16, "\0"), "ascii")];

export class Addresses {
  constructor(program) {
    this.program = program;
  }

  derive(name, ...seeds) {
    return PublicKey.findProgramAddressSync([Buffer.from(name), ...seeds.map(bytesOf)], this.program)[0];
  }

  config = () => this.derive("config");
  compensation = () => this.derive("compensation");
  emission = () => this.derive("emission");
  market = (authority) => this.derive("market", authority);
  marketFees = (market) => this.derive("market_fees", market);
  class = (id) => this.derive("class", id);
  node = (key) => this.derive("node", key);
  pool = (node) => this.derive("pool", node);
  poolStake = (pool) => this.derive("pool_stake", pool);
  poolFees = (pool) => this.derive("pool_fees", pool);
  position = (pool, owner) => this.derive("position", pool, owner);
  ticket = (position, index) => this.derive("ticket", position, u64(index));
  vault = (wallet) => this.derive("vault", wallet);
  vaultTokens = (vault) => this.derive("vault_tokens", vault);
  allowance = (wallet, market) => this.derive("allowance", wallet, market);
  escrow = (wallet, opener, nonce) => this.derive("escrow", wallet, opener, u64(nonce));
}

const CLAIM = [
  ["programId", bytesOf],
  ["genesisHash", bytesOf],
  ["escrow", bytesOf],
  ["attempt", u32],
  ["market", bytesOf],
  ["node", bytesOf],
  ["classId", bytesOf],
  ["pricePerHour", u64],
  ["remainingMaxMs", u64],
  ["remainingDeposit", u64],
  ["termsHash", bytesOf],
  ["feeBps", u16],
  ["atMs", u64],
];
const VOUCHER = [
  ["programId", bytesOf],
  ["genesisHash", bytesOf],
  ["escrow", bytesOf],
  ["attempt", u32],
  ["wallet", bytesOf],
  ["node", bytesOf],
  ["sequence", u64],
  ["startedAtMs", u64],
  ["atMs", u64],
  ["billedMs", u64],
  ["amount", u64],
  ["state", u8],
  ["reason", u16],
  ["digest", bytesOf],
];

// What is signed: the domain's 16 bytes and the hash of the fields.
function message(domain, layout, fields) {
  const packed = Buffer.concat(layout.map(([name, width]) => width(fields[name])));
  return Buffer.concat([Buffer.from(domain, "ascii"), sha256(packed)]);
}

export const claimMessage = (fields) => message("reaver:claim:v01", CLAIM, fields);
export const voucherMessage = (fields) => message("reaver:voucher:1", VOUCHER, fields);

// The precompile's instruction as web3.js makes it: one signature, everything inside it.
export const signatureCheck = (keypair, signed) =>
  Ed25519Program.createInstructionWithPrivateKey({ privateKey: keypair.secretKey, message: signed });
