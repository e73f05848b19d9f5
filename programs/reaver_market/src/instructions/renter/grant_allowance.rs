//! Specification
//! Signs: the wallet; the payer.
//! Changes: makes the allowance, or replaces its caps; what was used stays counted.
//! Refuses: caps of zero, an expiry in the past, a pause.

use pinocchio::ProgramResult;

use crate::{
    errors::MarketError,
    quantities::{Price, Time, Tokens},
    Ctx,
};

instruction! {
    /// Lets a market spend for the wallet, within caps.
    grant_allowance {
        accounts {
            payer: [signer, writable],
            wallet: [signer],
            config: [],
            market: [],
            allowance: [writable],
            system_program: [],
        }
        args {
            escrow_cap: Tokens,
            day_cap: Tokens,
            total_cap: Tokens,
            max_price: Price,
            expires_at: Time,
        }
    }
}

/// # Errors
/// Whatever the specification above refuses.
pub fn process(_ctx: Ctx<'_>) -> ProgramResult {
    Err(MarketError::Unwritten.into())
}
