//! Specification
//! Signs: anyone (pays the epoch account's rent if it is the first).
//! Changes: the node's weight of the epoch, and the epoch's total.
//! Refuses: outside the first half of the next epoch, twice, a weight of zero.

use crate::{
    errors::MarketError,
    quantities::Number,
    Ctx,
};

instruction! {
    /// Registers a node's weight for an epoch's emission.
    register_weight {
        accounts {
            submitter: [signer, writable],
            config: [],
            node: [writable],
            pool: [],
            epoch: [writable],
            system_program: [],
        }
        args {
            epoch: Number,
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
