//! Specification
//! Signs: the owner of the ticket, delegator or operator.
//! Changes: pays what the ticket's shares are worth; closes the ticket, and a position without shares, earnings and tickets.
//! Refuses: before the unlock time. Never paused.

use crate::{errors::MarketError, Ctx};

instruction! {
    /// Pays out an unbonded stake.
    withdraw_ticket {
        accounts {
            owner: [signer],
            pool: [writable],
            position: [writable],
            ticket: [writable],
            pool_stake: [writable],
            destination: [writable],
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
