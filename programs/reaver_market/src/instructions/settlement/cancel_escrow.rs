//! Specification
//!
//! Signs: the wallet, or the market's matcher of the moment.
//! Changes: closes an open escrow (with a contest open it goes to closing). Of an assigned one nothing after
//! now + stop_after is billed any more; no assign or extend follows, and the attempt's end closes it.
//! Refuses: strangers, a second time, an escrow in closing. Never paused.

use crate::{
    checks::{self, require},
    errors::MarketError,
    events::EscrowStopping,
    quantities::Key,
    reasons,
    settlement::{
        ending::{self, Closing},
        shown::finish,
    },
    state::{escrow_state, Allowance, Config, Escrow, Market, Vault},
    sysvars, Ctx,
};

instruction! {
    /// Ends an open escrow, or stops a running one.
    cancel_escrow {
        accounts {
            authority: [signer],
            config: Config [],
            market: Market [],
            escrow: Escrow [writable],
            vault: Vault [writable],
            allowance: Allowance [writable, optional],
            rent_payer: [writable],
        }
        args {
        }
    }
}

/// # Errors
/// Whatever the specification above refuses.
pub fn process(ctx: Ctx<'_>) -> Result<(), MarketError> {
    let id = ctx.program_id;
    let a = Accounts::parse(id, ctx.accounts)?;
    Args::parse(ctx.data)?;
    let now = sysvars::now()?;
    let (authority, escrow_key, market_key) =
        (Key::of(a.authority), Key::of(a.escrow), Key::of(a.market));
    let config: &Config = checks::load(a.config, id)?;
    let market: &Market = checks::load(a.market, id)?;
    let escrow: &mut Escrow = checks::load_mut(a.escrow, id)?;
    let vault: &mut Vault = checks::load_mut(a.vault, id)?;
    let allowance: Option<&mut Allowance> = checks::load_optional(a.allowance, id)?;
    require(escrow.market == market_key, MarketError::WrongMarket)?;
    require(vault.wallet == escrow.wallet, MarketError::WrongVault)?;
    require(
        escrow.rent_payer.is(a.rent_payer),
        MarketError::WrongRentPayer,
    )?;
    require(
        authority == escrow.wallet || authority == market.matcher,
        MarketError::NotOpener,
    )?;
    ending::check_allowance(escrow, allowance.as_deref())?;

    let closed = match escrow.state {
        escrow_state::OPEN => {
            let closing = Closing {
                key: escrow_key,
                vault,
                allowance,
                now,
                reason: reasons::CANCELLED,
            };
            Some(closing.close(escrow)?)
        }
        escrow_state::ASSIGNED => {
            require(!escrow.is_stopping(), MarketError::StopAlreadySet)?;
            escrow.stop_at = now.after(config.params.stop_after)?;
            EscrowStopping {
                escrow: escrow_key,
                stop_at: escrow.stop_at,
            }
            .emit();
            None
        }
        _ => return Err(MarketError::EscrowIsClosing),
    };
    finish(closed, a.escrow, a.rent_payer)
}
