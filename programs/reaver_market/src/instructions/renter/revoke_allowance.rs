//! Specification
//! Signs: the wallet.
//! Changes: zeroes the caps: nothing more is opened, extended or assigned under it.
//! Refuses: strangers only. Never paused.

use pinocchio::ProgramResult;

use crate::{
    errors::MarketError,
    Ctx,
};

instruction! {
    /// Ends an allowance at once.
    revoke_allowance {
        accounts {
            wallet: [signer],
            allowance: [writable],
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
