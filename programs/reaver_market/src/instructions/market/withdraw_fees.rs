//! Specification
//! Signs: the market's authority.
//! Changes: pays the recorded number to any account the authority names.
//! Refuses: when nothing is owed. Never paused.

use crate::{errors::MarketError, Ctx};

instruction! {
    /// Pays out what a market has earned.
    withdraw_fees {
        accounts {
            authority: [signer],
            market: [writable],
            market_fees: [writable],
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
    let args = Args::parse(ctx.data)?;
    let a = Accounts::parse(ctx.program_id, ctx.accounts)?;
    let _ = (args, a);
    Err(MarketError::UnknownInstruction)
}
