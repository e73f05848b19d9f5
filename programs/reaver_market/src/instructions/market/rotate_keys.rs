//! Specification
//! Signs: the market's authority.
//! Changes: both keys, for later assigns; a running attempt keeps its meter.
//! Refuses: equal keys.

use pinocchio::{AccountView, Address};

use crate::{
    checks::{self, require},
    errors::MarketError,
    events,
    quantities::Key,
    state::Market,
    Ctx,
};

instruction! {
    /// Replaces a market's matcher and meter.
    rotate_keys {
        accounts {
            authority: [signer],
            market: [writable],
        }
        args {
            matcher: Key,
            meter: Key,
        }
    }
}

/// # Errors
/// Whatever the specification above refuses.
#[inline(never)]
pub fn process(ctx: Ctx<'_>) -> Result<(), MarketError> {
    let args = Args::parse(ctx.data)?;
    let a = Accounts::parse(ctx.program_id, ctx.accounts)?;
    let address = Key::of(a.market);
    let market = governed(a.market, a.authority, ctx.program_id)?;
    require(args.matcher != args.meter, MarketError::KeysEqual)?;
    market.matcher = args.matcher;
    market.meter = args.meter;
    events::KeysRotated {
        market: address,
        matcher: args.matcher,
        meter: args.meter,
    }
    .emit();
    Ok(())
}

/// A market, to be changed by its authority.
///
/// # Errors
/// `NotMarketAuthority`, and as `checks::load_mut`.
#[inline(never)]
pub fn governed<'a>(
    market: &'a mut AccountView,
    authority: &AccountView,
    program_id: &Address,
) -> Result<&'a mut Market, MarketError> {
    let market: &mut Market = checks::load_mut(market, program_id)?;
    require(
        market.authority.is(authority),
        MarketError::NotMarketAuthority,
    )?;
    Ok(market)
}
