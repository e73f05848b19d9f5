//! Specification
//! Signs: the admin.
//! Changes: the parameters; never the mints, the genesis hash or the epoch's length.
//! Refuses: a number outside its bounds.

use super::set_pause::administered;
use crate::declare::put;
use crate::{errors::MarketError, events, state::Params, Ctx};

instruction! {
    /// Sets the deployment's numbers, within bounds.
    set_params {
        accounts {
            admin: [signer],
            config: [writable],
        }
        args {
            params: Params,
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
    args.params.require_bounds(config.epoch_length)?;
    put(&mut config.params, &args.params);
    events::ParamsSet::of(&args.params).emit();
    Ok(())
}
