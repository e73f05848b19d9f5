//! Specification

use pinocchio::ProgramResult;

use crate::{
    errors::MarketError,
    messages::VoucherArgs,
    quantities::{Count},
    Ctx,
};

instruction! {
    /// Pays what a voucher of both sides says; ends the attempt or the escrow if it says so.
    settle {
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
            rent_payer: [writable],
            instructions: [],
            token_program: [],
        }
        args {
            attempt: Count,
            voucher: VoucherArgs,
        }
    }
}

/// # Errors
/// Whatever the specification above refuses.
pub fn process(_ctx: Ctx<'_>) -> ProgramResult {
    Err(MarketError::Unwritten.into())
}
