//! Specification

use pinocchio::ProgramResult;

use crate::{
    errors::MarketError,
    Ctx,
};

instruction! {
    /// Ends an open escrow, or stops a running one.
    cancel_escrow {
        accounts {
            authority: [signer],
            config: [],
            market: [],
            escrow: [writable],
            vault: [writable],
            allowance: [writable, optional],
            rent_payer: [writable],
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
