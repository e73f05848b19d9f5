//! Specification
//! Signs: the wallet.
//! Changes: moves free tokens out of the vault.
//! Refuses: more than is free. Never paused.

use pinocchio::ProgramResult;

use crate::{
    errors::MarketError,
    quantities::{Tokens},
    Ctx,
};

instruction! {
    /// Moves free tokens out of a vault.
    withdraw {
        accounts {
            wallet: [signer],
            vault: [],
            vault_tokens: [writable],
            destination: [writable],
            token_program: [],
        }
        args {
            amount: Tokens,
        }
    }
}

/// # Errors
/// Whatever the specification above refuses.
pub fn process(_ctx: Ctx<'_>) -> ProgramResult {
    Err(MarketError::Unwritten.into())
}
