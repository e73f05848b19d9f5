//! Specification
//! Signs: the market's authority; the payer.
//! Changes: makes the market and its fee vault.
//! Refuses: equal keys, a fee above the bound, a second market of the same authority, a pause.

use pinocchio::ProgramResult;

use crate::{
    errors::MarketError,
    quantities::{Bps, Key},
    Ctx,
};

instruction! {
    /// Makes a market.
    register_market {
        accounts {
            payer: [signer, writable],
            authority: [signer],
            config: [],
            market: [writable],
            market_fees: [writable],
            payment_mint: [],
            token_program: [],
            system_program: [],
        }
        args {
            matcher: Key,
            meter: Key,
            fee_bps: Bps,
        }
    }
}

/// # Errors
/// Whatever the specification above refuses.
pub fn process(_ctx: Ctx<'_>) -> ProgramResult {
    Err(MarketError::Unwritten.into())
}
