//! Specification
//! Signs: anyone.
//! Changes: pays the recorded number to the deployment's protocol account.
//! Refuses: when nothing is owed. Never paused.

use crate::{errors::MarketError, Ctx};

instruction! {
    /// Moves the protocol's part of a market's fees to the protocol.
    sweep_protocol_fees {
        accounts {
            submitter: [signer],
            config: [],
            market: [writable],
            market_fees: [writable],
            protocol_token: [writable],
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
