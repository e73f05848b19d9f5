//! Specification
//! Signs: the market's authority.
//! Changes: both keys, for later assigns; a running attempt keeps its meter.
//! Refuses: equal keys.

use crate::{
    errors::MarketError,
    quantities::Key,
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
    let _ = (args, a);
    Err(MarketError::UnknownInstruction)
}
