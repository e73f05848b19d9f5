//! Specification

use pinocchio::ProgramResult;

use crate::{
    errors::MarketError,
    messages::VoucherArgs,
    Ctx,
};

instruction! {
    /// Ends an attempt from the node's side.
    quit {
        accounts {
            submitter: [signer],
            config: [],
            market: [writable],
            market_fees: [writable],
            escrow: [writable],
            vault: [writable],
            vault_tokens: [writable],
            allowance: [writable, optional],
            node: [writable],
            pool: [writable],
            pool_fees: [writable],
            payout: [writable],
            instructions: [],
            token_program: [],
        }
        args {
            voucher: VoucherArgs,
        }
    }
}

/// # Errors
/// Whatever the specification above refuses.
pub fn process(_ctx: Ctx<'_>) -> ProgramResult {
    Err(MarketError::Unwritten.into())
}
