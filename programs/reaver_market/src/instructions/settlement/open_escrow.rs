//! Specification

use pinocchio::ProgramResult;

use crate::{
    errors::MarketError,
    quantities::{Count, Hash, Millis, Number, Price, Tokens},
    state::{ClassId},
    Ctx,
};

instruction! {
    /// Locks a deposit under terms.
    open_escrow {
        accounts {
            payer: [signer, writable],
            authority: [signer],
            config: [],
            market: [],
            vault: [writable],
            vault_tokens: [],
            allowance: [writable, optional],
            escrow: [writable],
            system_program: [],
        }
        args {
            nonce: Number,
            class_id: ClassId,
            terms_hash: Hash,
            ceiling_price: Price,
            deposit: Tokens,
            max_time: Millis,
            attempts_allowed: Count,
        }
    }
}

/// # Errors
/// Whatever the specification above refuses.
pub fn process(_ctx: Ctx<'_>) -> ProgramResult {
    Err(MarketError::Unwritten.into())
}
