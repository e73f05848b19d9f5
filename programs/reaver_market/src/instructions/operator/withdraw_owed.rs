//! Specification
//! Signs: the operator.
//! Changes: pays what the payout account couldn't take to any account the operator names.
//! Refuses: when nothing is owed. Never paused.

use pinocchio::ProgramResult;

use crate::{
    errors::MarketError,
    Ctx,
};

instruction! {
    /// Pays out what a node is owed.
    withdraw_owed {
        accounts {
            operator: [signer],
            node: [writable],
            pool: [],
            pool_fees: [writable],
            destination: [writable],
            token_program: [],
        }
        args {
        }
    }
}

/// # Errors
/// Whatever the specification above refuses.
pub fn process(_ctx: Ctx<'_>) -> ProgramResult {
    Err(MarketError::Unwritten.into())
}
