//! Specification
//! Signs: the program's upgrade authority, or the compiled-in key where the program has none; the payer.
//! Changes: makes Config, the compensation vault and the emission vault.
//! Refuses: a stranger, a second time, equal mints, mints of another token program, parameters out of bounds.

use pinocchio::ProgramResult;

use crate::{
    errors::MarketError,
    quantities::{Hash, Millis, Stake},
    state::{Params},
    Ctx,
};

instruction! {
    /// Makes the deployment's Config and its two token accounts.
    initialize {
        accounts {
            payer: [signer, writable],
            authority: [signer],
            config: [writable],
            payment_mint: [],
            stake_mint: [],
            protocol_token: [],
            compensation_vault: [writable],
            emission_vault: [writable],
            program: [],
            program_data: [optional],
            token_program: [],
            system_program: [],
        }
        args {
            genesis_hash: Hash,
            params: Params,
            epoch_length: Millis,
            first_emission: Stake,
        }
    }
}

/// # Errors
/// Whatever the specification above refuses.
pub fn process(_ctx: Ctx<'_>) -> ProgramResult {
    Err(MarketError::Unwritten.into())
}
