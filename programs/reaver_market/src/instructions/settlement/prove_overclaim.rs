//! Specification
//! Signs: anyone; the voucher is the node's.
//! Changes: slashes both buckets into the emission vault; ends the attempt as a release that compensates nobody.
//! Refuses: a voucher within twice the time since the assignment and a contest window; an attempt that does not run.

use crate::{
    errors::MarketError,
    messages::VoucherArgs,
    Ctx,
};

instruction! {
    /// Shows that a node signed for more time than can have passed.
    prove_overclaim {
        accounts {
            submitter: [signer],
            config: [],
            escrow: [writable],
            vault: [writable],
            allowance: [writable, optional],
            node: [writable],
            pool: [writable],
            pool_stake: [writable],
            emission_vault: [writable],
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
#[inline(never)]
pub fn process(ctx: Ctx<'_>) -> Result<(), MarketError> {
    let args = Args::parse(ctx.data)?;
    let a = Accounts::parse(ctx.program_id, ctx.accounts)?;
    let _ = (args, a);
    Err(MarketError::UnknownInstruction)
}
