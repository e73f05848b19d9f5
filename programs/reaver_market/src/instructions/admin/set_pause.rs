//! Specification
//! Signs: the admin.
//! Changes: the pause bits. No bit closes a way out.
//! Refuses: unknown bits.

use pinocchio::{AccountView, Address};

use crate::{
    checks::{self, require},
    errors::MarketError,
    events,
    state::{pause, Config},
    Ctx,
};

instruction! {
    /// Closes or opens ways in.
    set_pause {
        accounts {
            admin: [signer],
            config: [writable],
        }
        args {
            paused: u8,
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
    require(
        args.paused & !pause::ALL == 0,
        MarketError::ParameterOutOfBounds,
    )?;
    config.paused = args.paused;
    events::PauseSet {
        paused: args.paused,
    }
    .emit();
    Ok(())
}

/// The deployment, to be changed by its admin.
///
/// # Errors
/// `NotAdmin`, and as `checks::load_mut`.
#[inline(never)]
pub fn administered<'a>(
    config: &'a mut AccountView,
    admin: &AccountView,
    program_id: &Address,
) -> Result<&'a mut Config, MarketError> {
    let config: &mut Config = checks::load_mut(config, program_id)?;
    require(config.admin.is(admin), MarketError::NotAdmin)?;
    Ok(config)
}
