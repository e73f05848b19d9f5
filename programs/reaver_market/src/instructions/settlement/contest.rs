//! Specification
//!
//! Signs: anyone (the submitter); the voucher by node and meter.
//! Changes: pays a later voucher of the contested attempt from its reserve, and decides by it anew whether
//! the end was a loss. The escrow's state stays as it is.
//! Refuses: no contest, after the window, a voucher dated after the end or not countersigned by the
//! attempt's meter, more than the reserve, everything else that `Usage::accept` refuses.

use crate::{
    errors::MarketError,
    messages::VoucherArgs,
    settlement::{payment::begins_with_front, shown::show},
    Ctx,
};

instruction! {
    /// Shows a later voucher of a contested attempt.
    contest {
        accounts {
            submitter: [signer],
            config: Config [],
            market: Market [writable],
            market_fees: [writable],
            escrow: Escrow [writable],
            vault: Vault [writable],
            vault_tokens: [writable],
            allowance: Allowance [writable, optional],
            node: Node [writable],
            pool: Pool [writable],
            pool_fees: [writable],
            payout: [writable],
            instructions: [],
            token_program: TokenProgram [],
        }
        args {
            voucher: VoucherArgs,
        }
    }
}

const _: () = assert!(begins_with_front(&DECLARED));

/// # Errors
/// Whatever the specification above refuses.
#[inline(never)]
pub fn process(ctx: Ctx<'_>) -> Result<(), MarketError> {
    let args = Args::parse(ctx.data)?;
    // SAFETY: asserted above.
    let (mut shown, _) = unsafe { show(ctx, &args.voucher) }?;
    shown.book_contested()?;
    shown.pay()
}
