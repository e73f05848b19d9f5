//! Specification
//! Signs: the operator.
//! Changes: the payout account always; market and class when no attempt is open. Another market lifts a suspension.
//! Refuses: another market or class with attempts open, a bond below the new class bond, a payout account that is not the operator's.

use pinocchio::ProgramResult;

use crate::{
    errors::MarketError,
    Ctx,
};

instruction! {
    /// Changes a node's market, class or payout account to the ones passed.
    update_node {
        accounts {
            operator: [signer],
            config: [],
            node: [writable],
            market: [],
            class_account: [],
            pool: [],
            payout: [],
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
