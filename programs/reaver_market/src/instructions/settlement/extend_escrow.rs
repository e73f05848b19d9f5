//! Specification
//! Signs: the opener: the wallet, or the matcher of the market that opened under an allowance.
//! Changes: deposit, maximum time, the vault's lock, the allowance's uses, the exposure of a running attempt.
//! Refuses: what open_escrow and assign would refuse of such a sum; a cancelled or closing escrow; a pause.

use crate::{
    checks::{self, require},
    errors::MarketError,
    events::EscrowExtended,
    math,
    quantities::{Key, Millis, Tokens},
    settlement::ending,
    state::{
        escrow_state, pause, Allowance, Config, Escrow, Market, Node, Params, Pool, Vault,
        MAX_DURATION,
    },
    sysvars, Ctx,
};

instruction! {
    /// Adds deposit or time to an escrow.
    extend_escrow {
        accounts {
            opener: [signer],
            config: Config [],
            market: Market [],
            escrow: Escrow [writable],
            vault: Vault [writable],
            vault_tokens: [],
            allowance: Allowance [writable, optional],
            node: [writable, optional],
            pool: [optional],
        }
        args {
            added_deposit: Tokens,
            added_time: Millis,
        }
    }
}

/// # Errors
/// Whatever the specification above refuses.
#[inline(never)]
pub fn process(ctx: Ctx<'_>) -> Result<(), MarketError> {
    let id = ctx.program_id;
    let args = Args::parse(ctx.data)?;
    let a = Accounts::parse(id, ctx.accounts)?;
    let now = sysvars::now()?;
    let (opener, escrow_key, added) = (Key::of(a.opener), Key::of(a.escrow), args.added_deposit);
    let config: &Config = checks::load(a.config, id)?;
    require(!config.is_paused(pause::EXTEND), MarketError::Paused)?;
    require(
        !(added.is_zero() && args.added_time.is_zero()),
        MarketError::AmountZero,
    )?;
    let market: &Market = checks::load(a.market, id)?;
    let vault: &mut Vault = checks::load_mut(a.vault, id)?;
    let allowance: Option<&mut Allowance> = checks::load_optional(a.allowance, id)?;
    let escrow: &mut Escrow = checks::load_mut(a.escrow, id)?;
    require(escrow.market.is(a.market), MarketError::WrongMarket)?;
    require(vault.wallet == escrow.wallet, MarketError::WrongVault)?;
    require(
        vault.token_account.is(a.vault_tokens),
        MarketError::WrongTokenAccount,
    )?;
    ending::check_allowance(escrow, allowance.as_deref())?;
    let may = if allowance.is_some() {
        &market.matcher
    } else {
        &escrow.wallet
    };
    require(opener == *may, MarketError::NotOpener)?;
    require(
        escrow.state != escrow_state::CLOSING,
        MarketError::EscrowIsClosing,
    )?;
    require(!escrow.is_stopping(), MarketError::EscrowIsStopping)?;

    escrow.deposit.grow(added)?;
    escrow.max_time.grow(args.added_time)?;
    require(
        escrow.max_time <= MAX_DURATION,
        MarketError::DurationOutOfBounds,
    )?;
    vault.lock(checks::balance(a.vault_tokens)?, added)?;
    if let Some(allowance) = allowance {
        allowance.require_live(now)?;
        require(
            escrow.deposit <= allowance.escrow_cap,
            MarketError::EscrowCapExceeded,
        )?;
        allowance.use_up(added, now)?;
    }
    if escrow.state == escrow_state::ASSIGNED {
        require(escrow.attempt.node.is(a.node), MarketError::WrongNode)?;
        let node: &mut Node = checks::load_mut(a.node, id)?;
        require(node.pool.is(a.pool), MarketError::WrongPool)?;
        node.exposure.grow(added)?;
        escrow.attempt.exposure.grow(added)?;
        // more time alone puts nothing more at stake
        if !added.is_zero() {
            let pool: &Pool = checks::load(a.pool, id)?;
            require_covered(node, pool, &config.params)?;
        }
    }
    EscrowExtended {
        escrow: escrow_key,
        added_deposit: added,
        added_time: args.added_time,
        deposit: escrow.deposit,
        max_time: escrow.max_time,
    }
    .emit();
    Ok(())
}

/// Refuses more exposure than the stake covers.
///
/// # Errors
/// `ExposureExceeded`.
#[inline(never)]
pub fn require_covered(node: &Node, pool: &Pool, params: &Params) -> Result<(), MarketError> {
    let limit = math::exposure_limit_floor(
        pool.active_stake,
        params.exposure_rate,
        params.exposure_multiple.get(),
    )
    .unwrap_or(Tokens::MAX); // beyond 64 bits: above everything
    require(node.exposure <= limit, MarketError::ExposureExceeded)
}
