//! Specification
//! Signs: the operator.
//! Changes: the node's status between active and draining.
//! Refuses: a suspended or retired node.

use crate::{
    errors::MarketError,
    quantities::Bool,
    Ctx,
};

instruction! {
    /// Stops taking work, or takes it again.
    drain {
        accounts {
            operator: [signer],
            node: [writable],
        }
        args {
            draining: Bool,
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
