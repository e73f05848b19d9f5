//! Specification
//!
//! Signs: the node's key (as submitter).
//! Changes: pays the shown voucher (the node's best one that both sides signed); ends the attempt; opens the
//! contest. It counts as a loss, unless the meter had been silent for three times lost_after.
//! Refuses: another key, an escrow without running attempt, another open contest, everything that
//! `Usage::accept` refuses of the voucher.

use crate::{
    checks::require,
    errors::MarketError,
    messages::VoucherArgs,
    reasons,
    settlement::{ending::OneSided, payment::begins_with_front, shown::show},
    Ctx,
};

instruction! {
    /// Ends an attempt from the node's side.
    quit {
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
    shown.require_running()?;
    require(
        shown.is_by(&shown.front.node.get().node_key),
        MarketError::NotNodeKey,
    )?;
    shown.book_if_shown()?;
    let end = OneSided {
        now: shown.now,
        reason: reasons::NODE_QUIT,
        by_quit: true,
        can_be_loss: true,
    };
    shown.end(&end)
}
