//! Specification

use pinocchio::ProgramResult;

use crate::{
    errors::MarketError,
    Ctx,
};

instruction! {
    /// Ends a contest after its window, and takes the compensation of a loss.
    close_contest {
        accounts {
            submitter: [signer],
            config: [],
            escrow: [writable],
            vault: [writable],
            allowance: [writable, optional],
            node: [writable],
            pool: [writable],
            position: [writable],
            pool_stake: [writable],
            compensation_vault: [writable],
            rent_payer: [writable],
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
