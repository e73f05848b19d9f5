//! Specification
//! Signs: the owner of the position.
//! Changes: pays what the position has earned, the operator's with the commission; closes a position without shares and tickets.
//! Refuses: when nothing is owed. Never paused.

use crate::{errors::MarketError, Ctx};

instruction! {
    /// Pays out a position's rewards.
    claim {
        accounts {
            owner: [signer],
            pool: [writable],
            position: [writable],
            pool_fees: [writable],
            pool_stake: [writable],
            payment_destination: [writable],
            stake_destination: [writable],
            rent_payer: [writable],
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
