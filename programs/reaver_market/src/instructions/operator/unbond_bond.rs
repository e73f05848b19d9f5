//! Specification
//! Signs: the operator (pays the ticket's rent).
//! Changes: shares of the bond leave for the unbonding bucket, as a ticket.
//! Refuses: less than class bond and held compensations left while the node is active or has attempts. Never paused.

use crate::{
    errors::MarketError,
    quantities::Shares,
    Ctx,
};

instruction! {
    /// Takes a part of the operator's own stake out.
    unbond_bond {
        accounts {
            operator: [signer, writable],
            config: [],
            node: [],
            class_account: [],
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
