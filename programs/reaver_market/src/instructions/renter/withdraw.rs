//! Specification
//! Signs: the wallet.
//! Changes: moves free tokens out of the vault.
//! Refuses: more than is free. Never paused.

use pinocchio::cpi::Seed;

use crate::{
    checks::{self, require},
    cpi::TokenTransfer,
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
            token_program: [],
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
    checks::token_program(a.token_program)?;
    require(!args.amount.is_zero(), MarketError::AmountZero)?;
    let vault: &Vault = checks::load(a.vault, program_id)?;
    require(vault.wallet.is(a.wallet), MarketError::NotWallet)?;
    require(
        vault.token_account.is(a.vault_tokens),
        MarketError::WrongTokenAccount,
    )?;
    require(
        a.destination.address() != a.vault_tokens.address(),
        MarketError::DuplicateAccount,
    )?;
    let before = checks::balance(a.vault_tokens)?;
    require(
        vault.free(before)? >= args.amount,
        MarketError::InsufficientFunds,
    )?;
    let bump = [vault.bump];
    TokenTransfer {
        from: a.vault_tokens,
        to: a.destination,
        authority: a.vault,
        amount: args.amount.get(),
    }
    .send(&[
        Seed::from(seeds::VAULT),
        Seed::from(&vault.wallet.0),
        Seed::from(&bump),
    ])?;
    // exactly the amount left, and what escrows hold is still there
    let after = checks::balance(a.vault_tokens)?;
    require(
        after.plus(args.amount)? == before && after >= vault.locked,
        MarketError::ConservationBroken,
    )?;
    events::Withdrawn {
        vault: Key::of(a.vault),
        wallet: vault.wallet,
        destination: Key::of(a.destination),
        amount: args.amount,
    }
    .emit();
    Ok(())
}
