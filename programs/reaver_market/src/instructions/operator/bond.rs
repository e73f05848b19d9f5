//! Specification
//! Signs: the operator.
//! Changes: adds to the operator's own stake.
//! Refuses: nothing at all, a dead pool, a retired node, a pause.

use pinocchio::ProgramResult;

use crate::{
    errors::MarketError,
    quantities::{Stake},
    Ctx,
};

instruction! {
    /// Adds to the operator's own stake.
    bond {
        accounts {
            operator: [signer],
            config: [],
            node: [],
            pool: [writable],
            position: [writable],
            stake_source: [writable],
            pool_stake: [writable],
            token_program: [],
        }
        args {
            amount: Stake,
        }
    }
}

/// # Errors
/// Whatever the specification above refuses.
pub fn process(_ctx: Ctx<'_>) -> ProgramResult {
    Err(MarketError::Unwritten.into())
}
