//! Specification
//! Signs: the admin.
//! Changes: the pause bits. No bit closes a way out.
//! Refuses: unknown bits.

use crate::{errors::MarketError, Ctx};

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
    let _ = (args, a);
    Err(MarketError::UnknownInstruction)
}
