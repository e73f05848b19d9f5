//! Specification

use pinocchio::ProgramResult;

use crate::{
    errors::MarketError,
    quantities::{Millis, Price, Time, Tokens},
    Ctx,
};

instruction! {
    /// Starts an attempt on a node that has signed a claim.
    assign {
        accounts {
            matcher: [signer],
            config: [],
            market: [],
            escrow: [writable],
            allowance: [optional],
            node: [writable],
            pool: [],
            class_account: [],
            instructions: [],
        }
        args {
            price: Price,
            time_left: Millis,
            deposit_left: Tokens,
            at: Time,
            claim_approval: u8,
        }
    }
}

/// # Errors
/// Whatever the specification above refuses.
pub fn process(_ctx: Ctx<'_>) -> ProgramResult {
    Err(MarketError::Unwritten.into())
}
