//! Specification
//! Signs: the market's authority.
//! Changes: the pending fee, effective after the delay.
//! Refuses: a fee above the deployment's bound.

use super::rotate_keys::governed;
use crate::{
    checks::{self, require},
    errors::MarketError,
    events,
    quantities::{Bps, Key},
    state::Config,
    sysvars, Ctx,
};

instruction! {
    /// Announces another market fee.
    set_fee {
        accounts {
            authority: [signer],
            config: Config [],
            market: [writable],
        }
        args {
            fee_bps: Bps,
        }
    }
}

/// # Errors
/// Whatever the specification above refuses.
#[inline(never)]
pub fn process(ctx: Ctx<'_>) -> Result<(), MarketError> {
    let args = Args::parse(ctx.data)?;
    let a = Accounts::parse(ctx.program_id, ctx.accounts)?;
    let now = sysvars::now()?;
    let config: &Config = checks::load(a.config, ctx.program_id)?;
    let address = Key::of(a.market);
    let market = governed(a.market, a.authority, ctx.program_id)?;
    require(
        args.fee_bps <= config.params.max_market_bps,
        MarketError::FeeTooHigh,
    )?;
    // one that has become due stays the fee until the new one does
    market.fee_bps = market.fee_at(now);
    market.pending_fee_bps = args.fee_bps;
    market.pending_fee_at = now.after(config.params.fee_delay)?;
    events::FeeSet {
        market: address,
        fee_bps: args.fee_bps,
        effective_at: market.pending_fee_at,
    }
    .emit();
    Ok(())
}
