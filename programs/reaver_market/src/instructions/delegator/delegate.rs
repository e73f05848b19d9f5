//! Specification
//! Signs: the owner of the position (pays its rent).
//! Changes: makes the position if there is none; adds stake and shares.
//! Refuses: nothing at all, a dead pool, a retired node, the operator's own position, a pause.

use crate::{
    errors::MarketError,
    quantities::Stake,
    Ctx,
};

instruction! {
    /// Stakes on a node.
    delegate {
        accounts {
            owner: [signer, writable],
            config: [],
            node: [],
            pool: [writable],
            position: [writable],
            stake_source: [writable],
            pool_stake: [writable],
            token_program: [],
            system_program: [],
        }
        args {
            amount: Stake,
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
