//! Specification
//! Signs: the admin.
//! Changes: the pending admin; zero withdraws the proposal.
//! Refuses: anybody else.

use crate::{
    errors::MarketError,
    quantities::Key,
    Ctx,
};

instruction! {
    /// Names who may take over the administration.
    propose_admin {
        accounts {
            admin: [signer],
            config: [writable],
        }
        args {
            candidate: Key,
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
