//! Specification
//! Signs: the wallet.
//! Changes: moves free tokens out of the vault.
//! Refuses: more than is free. Never paused.

use crate::{
    checks::{self, require},
    cpi::Purse,
    errors::MarketError,
    events,
    quantities::{Key, Tokens},
    seeds,
    state::Vault,
    Ctx,
};

instruction! {
    /// Moves free tokens out of a vault.
    withdraw {
        accounts {
            wallet: [signer],
            vault: Vault [],
            vault_tokens: [writable],
            destination: [writable],
            token_program: TokenProgram [],
        }
        args {
            amount: Tokens,
        }
    }
}

/// # Errors
/// Whatever the specification above refuses.
#[inline(never)]
pub fn process(ctx: Ctx<'_>) -> Result<(), MarketError> {
    let program_id = ctx.program_id;
    let args = Args::parse(ctx.data)?;
    let a = Accounts::parse(program_id, ctx.accounts)?;
    require(!args.amount.is_zero(), MarketError::AmountZero)?;
    let vault: &Vault = checks::load(a.vault, program_id)?;
    require(vault.wallet.is(a.wallet), MarketError::NotWallet)?;
    require(
        vault.token_account.is(a.vault_tokens),
        MarketError::WrongTokenAccount,
    )?;
    require(
        vault.free(checks::balance(a.vault_tokens)?)? >= args.amount,
        MarketError::InsufficientFunds,
    )?;
    // exactly the amount leaves, and what escrows hold stays
    Purse {
        account: a.vault_tokens,
        authority: a.vault,
        seeds: (seeds::VAULT, &vault.wallet.0, vault.bump),
    }
    .pay(a.destination, args.amount.get(), vault.locked.get())?;
    events::Withdrawn {
        vault: Key::of(a.vault),
        wallet: vault.wallet,
        destination: Key::of(a.destination),
        amount: args.amount,
    }
    .emit();
    Ok(())
}
