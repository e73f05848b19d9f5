//! Specification
//! Signs: anyone.
//! Changes: the next epoch to be closed gets its emission (one that nobody registered for only decays the schedule); an epoch whose distribution is over is closed, and what it did not draw is free again.
//! Refuses: too early, another epoch than the next one, an epoch still being distributed.

use crate::{
    errors::MarketError,
    quantities::Number,
    Ctx,
};

instruction! {
    /// Fixes an epoch's emission, or ends its distribution.
    close_epoch {
        accounts {
            submitter: [signer],
            config: [writable],
            epoch_account: [writable],
            emission_vault: [],
            rent_payer: [writable],
        }
        args {
            epoch: Number,
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
