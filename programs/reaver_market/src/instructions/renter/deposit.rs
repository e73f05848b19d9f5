//! Specification
//! Signs: whoever owns the source.
//! Changes: moves tokens into the vault.
//! Refuses: nothing at all, another vault's token account.

use pinocchio::ProgramResult;

use crate::{
    errors::MarketError,
    quantities::{Tokens},
    Ctx,
};

instruction! {
    /// Moves tokens into a vault.
    deposit {
        accounts {
            depositor: [signer],
            vault: [],
            source: [writable],
            vault_tokens: [writable],
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
