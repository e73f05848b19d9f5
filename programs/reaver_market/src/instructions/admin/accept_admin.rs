//! Specification
//! Signs: the pending admin.
//! Changes: the admin; nobody is pending afterwards.
//! Refuses: anybody else.

use crate::{errors::MarketError, Ctx};

instruction! {
    /// Takes over the administration.
    accept_admin {
        accounts {
            candidate: [signer],
            config: [writable],
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
