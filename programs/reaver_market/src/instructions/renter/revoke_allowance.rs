//! Specification
//! Signs: the wallet.
//! Changes: zeroes the caps: nothing more is opened, extended or assigned under it.
//! Refuses: strangers only. Never paused.

use crate::{
    checks::{self, require},
    errors::MarketError,
    events,
    quantities::{Key, Price, Tokens},
    state::Allowance,
    Ctx,
};

instruction! {
    /// Ends an allowance at once.
    revoke_allowance {
        accounts {
            wallet: [signer],
            allowance: Allowance [writable],
        }
        args {
        }
    }
}

/// # Errors
/// Whatever the specification above refuses.
#[inline(never)]
pub fn process(ctx: Ctx<'_>) -> Result<(), MarketError> {
    Args::parse(ctx.data)?;
    let a = Accounts::parse(ctx.program_id, ctx.accounts)?;
    let address = Key::of(a.allowance);
    let allowance: &mut Allowance = checks::load_mut(a.allowance, ctx.program_id)?;
    require(allowance.wallet.is(a.wallet), MarketError::NotWallet)?;
    allowance.escrow_cap = Tokens::ZERO;
    allowance.day_cap = Tokens::ZERO;
    allowance.total_cap = Tokens::ZERO;
    allowance.max_price = Price::ZERO;
    events::AllowanceRevoked {
        allowance: address,
        wallet: allowance.wallet,
        market: allowance.market,
    }
    .emit();
    Ok(())
}
