// The token program's instructions that the client needs, written by hand: their own package is another dependency.
import { utils, web3 } from "@coral-xyz/anchor";
import { systemProgram, tokenProgram } from "./market.mjs";

const { SystemProgram, TransactionInstruction } = web3;

export const MINT_BYTES = 82;

export const associated = (owner, mint) => utils.token.associatedAddress({ mint, owner });

const account = (pubkey, { isSigner = false, isWritable = false } = {}) => ({ pubkey, isSigner, isWritable });

// A new account of the token program, and InitializeMint2 without a freeze authority.
export function newMint(mint, authority, decimals, lamports) {
  return [
    SystemProgram.createAccount({
      fromPubkey: authority,
      newAccountPubkey: mint,
      lamports,
      space: MINT_BYTES,
      programId: tokenProgram,
    }),
    new TransactionInstruction({
      programId: tokenProgram,
      keys: [account(mint, { isWritable: true })],
      data: Buffer.concat([Buffer.from([20, decimals]), authority.toBuffer(), Buffer.from([0])]),
    }),
  ];
}

// The owner's associated account where there is none yet, and MintTo.
export function newTokens(mint, owner, authority, amount) {
  const holding = associated(owner, mint);
  const data = Buffer.alloc(9);
  data.writeUInt8(7);
  data.writeBigUInt64LE(amount, 1);
  return [
    new TransactionInstruction({
      programId: utils.token.ASSOCIATED_PROGRAM_ID,
      keys: [
        account(authority, { isSigner: true, isWritable: true }),
        account(holding, { isWritable: true }),
        account(owner),
        account(mint),
        account(systemProgram),
        account(tokenProgram),
      ],
      data: Buffer.from([1]),
    }),
    new TransactionInstruction({
      programId: tokenProgram,
      keys: [account(mint, { isWritable: true }), account(holding, { isWritable: true }), account(authority, { isSigner: true })],
      data,
    }),
  ];
}
