//! Specification
//! Signs: the wallet.
//! Changes: pays what the vault records, in stake tokens.
//! Refuses: when nothing is owed. Never paused.

use pinocchio::ProgramResult;

use crate::{
    errors::MarketError,
    Ctx,
};

instruction! {
    /// Pays out noted compensations.
    claim_compensation {
        accounts {
            wallet: [signer],
            config: [],
            vault: [writable],
            compensation_vault: [writable],
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
