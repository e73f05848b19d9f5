//! Specification
//! Signs: the opener: the wallet, or the matcher of the market that opened under an allowance.
//! Changes: deposit, maximum time, the vault's lock, the allowance's uses, the exposure of a running attempt.
//! Refuses: what open_escrow and assign would refuse of such a sum; a cancelled or closing escrow; a pause.

use crate::{
    errors::MarketError,
    quantities::{Millis, Tokens},
    Ctx,
};

instruction! {
    /// Adds deposit or time to an escrow.
    extend_escrow {
        accounts {
            opener: [signer],
            config: [],
            market: [],
            escrow: [writable],
            vault: [writable],
            vault_tokens: [],
            allowance: [writable, optional],
            node: [writable, optional],
            pool: [optional],
        }
        args {
            added_deposit: Tokens,
            added_time: Millis,
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
