//! Specification
//! Signs: the authority of the node's market.
//! Changes: the node's status.
//! Refuses: another market's node, a retired one, lifting what is no suspension.

use crate::{
    errors::MarketError,
    quantities::Bool,
    Ctx,
};

instruction! {
    /// Gives one of its nodes no more work, or gives it work again.
    suspend_node {
        accounts {
            authority: [signer],
            market: [],
            node: [writable],
        }
        args {
            suspended: Bool,
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
