//! Specification
//! Signs: anyone.
//! Changes: pays the recorded number to the deployment's protocol account.
//! Refuses: when nothing is owed. Never paused.

use super::withdraw_fees::{Owed, Payout};
use crate::{
    checks::{self, require},
    errors::MarketError,
    events,
    quantities::Key,
    state::Config,
    Ctx,
};

instruction! {
    /// Moves the protocol's part of a market's fees to the protocol.
    sweep_protocol_fees {
        accounts {
            submitter: [signer],
            config: Config [],
            market: [writable],
            market_fees: [writable],
            protocol_token: [writable],
            token_program: TokenProgram [],
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
    let config: &Config = checks::load(a.config, ctx.program_id)?;
    require(
        config.protocol_token.is(a.protocol_token),
        MarketError::WrongTokenAccount,
    )?;
    let payout = Payout {
        program_id: ctx.program_id,
        market: a.market,
        fees: a.market_fees,
        destination: a.protocol_token,
    };
    let amount = payout.pay(Owed::ToProtocol)?;
    events::ProtocolFeesSwept {
        market: Key::of(a.market),
        destination: Key::of(a.protocol_token),
        amount,
    }
    .emit();
    Ok(())
}
