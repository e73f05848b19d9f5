//! Specification
//! Signs: the wallet.
//! Changes: pays what the vault records, in stake tokens.
//! Refuses: when nothing is owed. Never paused.

use crate::{
    checks::{self, require},
    cpi::Purse,
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
            token_program: TokenProgram [],
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
    let config: &Config = checks::load(a.config, program_id)?;
    require(
        config.compensation_vault.is(a.compensation_vault),
        MarketError::WrongTokenAccount,
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

    Purse {
        account: a.compensation_vault,
        authority: a.config,
        seeds: (seeds::CONFIG, &[], config.bump),
    }
    .pay(a.destination, amount.get(), 0)?;
    events::CompensationClaimed {
        vault: address,
        wallet: Key::of(a.wallet),
        destination: Key::of(a.destination),
        amount,
    }
    .emit();
    Ok(())
}
