//! Specification

use pinocchio::ProgramResult;

use crate::{
    errors::MarketError,
    Ctx,
};

instruction! {
    /// Ends an escrow whose time has run out.
    reap {
        accounts {
            submitter: [signer],
            config: [],
            escrow: [writable],
            vault: [writable],
            allowance: [writable, optional],
            node: [writable, optional],
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
