//! Specification
//! Signs: the market's authority.
//! Changes: the pending fee, effective after the delay.
//! Refuses: a fee above the deployment's bound.

use crate::{
    errors::MarketError,
    quantities::Bps,
    Ctx,
};

instruction! {
    /// Announces another market fee.
    set_fee {
        accounts {
            authority: [signer],
            config: [],
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
    let _ = (args, a);
    Err(MarketError::UnknownInstruction)
}
