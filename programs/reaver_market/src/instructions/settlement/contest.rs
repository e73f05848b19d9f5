//! Specification
//!
//! Signs: anyone (the submitter); the voucher by node and meter.
//! Changes: pays a later voucher of the contested attempt from its reserve, and decides by it anew whether
//! the end was a loss. The escrow's state stays as it is.
//! Refuses: no contest, after the window, a voucher dated after the end or not countersigned by the
//! attempt's meter, more than the reserve, everything else that `Usage::accept` refuses.

use crate::{
    checks,
    errors::MarketError,
    messages::VoucherArgs,
    paying,
    quantities::{Key, Tokens},
    settlement::shown::{Paying, Shown, Till},
    sysvars, Ctx,
};

instruction! {
    /// Shows a later voucher of a contested attempt.
    contest {
        accounts {
            submitter: [signer],
            config: [],
            market: [writable],
            market_fees: [writable],
            escrow: [writable],
            vault: [writable],
            vault_tokens: [writable],
            allowance: [writable, optional],
            node: [writable],
            pool: [writable],
            pool_fees: [writable],
            payout: [writable],
            instructions: [],
            token_program: [],
        }
        args {
            voucher: VoucherArgs,
        }
    }
}

/// # Errors
/// Whatever the specification above refuses.
pub fn process(ctx: Ctx<'_>) -> Result<(), MarketError> {
    let id = ctx.program_id;
    let a = Accounts::parse(id, ctx.accounts)?;
    let args = Args::parse(ctx.data)?;
    checks::token_program(a.token_program)?;
    let shown = Shown {
        program_id: id,
        voucher: &args.voucher,
        submitter: Key::of(a.submitter),
        instructions: a.instructions,
        escrow: Key::of(a.escrow),
        node: Key::of(a.node),
        payout: a.payout,
        now: sysvars::now()?,
    };
    let Paying { mut states, purses } = paying!(id, a);
    let mut books = states.books(&purses)?;
    let booked = shown.of_contested(&mut books)?;
    let till = Till { purses: &purses, vault: states.vault,
        escrow: states.escrow, refunded: Tokens::ZERO };
    shown.pay(&booked, &till)
}
