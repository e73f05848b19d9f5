//! Specification
//! Signs: anyone.
//! Changes: stake tokens go from the emission vault to the pool, commission first; the last one closes the epoch's account.
//! Refuses: an epoch not closed or over, a node that has no weight in it or has drawn its part.

use crate::{errors::MarketError, Ctx};

instruction! {
    /// Pays a pool its part of an epoch's emission.
    distribute {
        accounts {
            submitter: [signer],
            config: [writable],
            node: [writable],
            pool: [writable],
            epoch_account: [writable],
            emission_vault: [writable],
            pool_stake: [writable],
            rent_payer: [writable],
            token_program: [],
        }
        args {
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
