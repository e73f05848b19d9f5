//! Specification
//! Signs: the operator.
//! Changes: the node's status; closes node, pool, the operator's position and the token accounts when all of them are empty.
//! Refuses: with attempts running or contested. Never paused.

use crate::{errors::MarketError, Ctx};

instruction! {
    /// Retires a node, and closes it once nothing of it is owed to anybody.
    retire {
        accounts {
            operator: [signer, writable],
            config: [],
            market: [writable],
            market_fees: [writable],
            node: [writable],
            pool: [writable],
            position: [writable],
            pool_stake: [writable],
            pool_fees: [writable],
            emission_vault: [writable],
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
