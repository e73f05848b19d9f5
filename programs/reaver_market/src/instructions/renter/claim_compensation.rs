//! Specification
//! Signs: the wallet.
//! Changes: pays what the vault records, in stake tokens.
//! Refuses: when nothing is owed. Never paused.

use pinocchio::cpi::Seed;

use crate::{
    checks::{self, require},
    cpi::TokenTransfer,
    errors::MarketError,
    events,
    quantities::{Key, Stake},
    seeds,
    state::{Config, Vault},
    Ctx,
};

instruction! {
    /// Pays out noted compensations.
    claim_compensation {
        accounts {
            wallet: [signer],
            config: Config [],
            vault: Vault [writable],
            compensation_vault: [writable],
            destination: [writable],
            token_program: [],
        }
        args {
        }
    }
}

/// # Errors
/// Whatever the specification above refuses.
#[inline(never)]
pub fn process(ctx: Ctx<'_>) -> Result<(), MarketError> {
    let program_id = ctx.program_id;
    Args::parse(ctx.data)?;
    let a = Accounts::parse(program_id, ctx.accounts)?;
    checks::token_program(a.token_program)?;
    let config: &Config = checks::load(a.config, program_id)?;
    require(
        config.compensation_vault.is(a.compensation_vault),
        MarketError::WrongTokenAccount,
    )?;
    require(
        a.destination.address() != a.compensation_vault.address(),
        MarketError::DuplicateAccount,
    )?;
    require(
        checks::token(a.destination)?.mint == config.stake_mint,
        MarketError::WrongMint,
    )?;
    let address = Key::of(a.vault);
    let vault: &mut Vault = checks::load_mut(a.vault, program_id)?;
    require(vault.wallet.is(a.wallet), MarketError::NotWallet)?;
    let amount = vault.compensation_owed;
    require(!amount.is_zero(), MarketError::NothingOwed)?;
    vault.compensation_owed = Stake::ZERO;

    let before = checks::balance(a.compensation_vault)?;
    let bump = [config.bump];
    TokenTransfer {
        from: a.compensation_vault,
        to: a.destination,
        authority: a.config,
        amount: amount.get(),
    }
    .send(&[Seed::from(seeds::CONFIG), Seed::from(&bump)])?;
    let moved = before.minus(checks::balance(a.compensation_vault)?)?;
    require(moved.get() == amount.get(), MarketError::ConservationBroken)?;
    events::CompensationClaimed {
        vault: address,
        wallet: Key::of(a.wallet),
        destination: Key::of(a.destination),
        amount,
    }
    .emit();
    Ok(())
}
