//! Specification
//! Signs: the wallet; the payer.
//! Changes: makes the wallet's vault and its token account.
//! Refuses: a second vault, another mint.

use pinocchio::ProgramResult;

use crate::{
    errors::MarketError,
    Ctx,
};

instruction! {
    /// Makes a wallet's vault.
    open_vault {
        accounts {
            payer: [signer, writable],
            wallet: [signer],
            config: [],
            vault: [writable],
            vault_tokens: [writable],
            payment_mint: [],
            token_program: [],
            system_program: [],
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
