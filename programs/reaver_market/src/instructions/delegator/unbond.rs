//! Specification
//! Signs: the owner of the position (pays the ticket's rent).
//! Changes: the shares leave for the unbonding bucket, as a ticket.
//! Refuses: no shares, more than there are, the operator's own position. Never paused.

use crate::{
    errors::MarketError,
    quantities::Shares,
    Ctx,
};

instruction! {
    /// Takes shares out of a pool.
    unbond {
        accounts {
            owner: [signer, writable],
            config: [],
            pool: [writable],
            position: [writable],
            ticket: [writable],
            system_program: [],
        }
        args {
            shares: Shares,
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
