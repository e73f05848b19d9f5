//! Specification
//! Signs: the admin.
//! Changes: the pending admin; zero withdraws the proposal.
//! Refuses: anybody else.

use super::set_pause::administered;
use crate::{errors::MarketError, events, quantities::Key, Ctx};

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
    let config = administered(a.config, a.admin, ctx.program_id)?;
    config.pending_admin = args.candidate;
    events::AdminProposed {
        admin: config.admin,
        candidate: args.candidate,
    }
    .emit();
    Ok(())
}
