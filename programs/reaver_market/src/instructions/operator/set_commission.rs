//! Specification
//! Signs: the operator.
//! Changes: the pending commission, effective after the delay.
//! Refuses: a step larger than the deployment's, more than everything, a retired node.

use crate::{
    errors::MarketError,
    quantities::Bps,
    Ctx,
};

instruction! {
    /// Announces another commission.
    set_commission {
        accounts {
            operator: [signer],
            config: [],
            node: [],
            pool: [writable],
        }
        args {
            commission_bps: Bps,
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
