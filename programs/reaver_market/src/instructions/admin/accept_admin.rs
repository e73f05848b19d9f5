//! Specification
//! Signs: the pending admin.
//! Changes: the admin; nobody is pending afterwards.
//! Refuses: anybody else.

use crate::{
    checks::{self, require},
    errors::MarketError,
    events,
    quantities::Key,
    state::Config,
    Ctx,
};

instruction! {
    /// Takes over the administration.
    accept_admin {
        accounts {
            candidate: [signer],
            config: Config [writable],
        }
        args {
        }
    }
}

/// # Errors
/// Whatever the specification above refuses.
#[inline(never)]
pub fn process(ctx: Ctx<'_>) -> Result<(), MarketError> {
    Args::parse(ctx.data)?;
    let a = Accounts::parse(ctx.program_id, ctx.accounts)?;
    let config: &mut Config = checks::load_mut(a.config, ctx.program_id)?;
    // where nobody is pending it is the zero key, for which nobody can sign
    require(config.pending_admin.is(a.candidate), MarketError::NotAdmin)?;
    let previous = config.admin;
    config.admin = config.pending_admin;
    config.pending_admin = Key::ZERO;
    events::AdminChanged {
        previous,
        admin: config.admin,
    }
    .emit();
    Ok(())
}
