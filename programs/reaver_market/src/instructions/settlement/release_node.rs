//! Specification
//!
//! Signs: the attempt's meter, or the market's of the moment (reasons 18 and 31); or the market's matcher of
//! the moment (reasons 7 to 10).
//! Changes: pays the shown voucher; ends the attempt; opens the contest: what could still be owed stays
//! reserved, and by the meter it counts as a loss, whose compensation is noted. After a cancellation the
//! escrow goes to closing.
//! Refuses: the meter before the node was silent for lost_after since the last sign (the shown voucher's
//! time, the last settled one's, the assignment), or with a voucher that no meter countersigned; the matcher
//! once anything of the attempt is settled, or with a voucher; any of them while another contest is open.

use crate::{
    checks::require,
    errors::MarketError,
    messages::VoucherArgs,
    quantities::Reason,
    reasons,
    settlement::{
        ending::{self, OneSided},
        payment::begins_with_front,
        shown::show,
    },
    Ctx,
};

instruction! {
    /// Ends an attempt from the market's side.
    release_node {
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
            reason: Reason,
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
    let by_matcher = (reasons::IMAGE_UNAVAILABLE..=reasons::VERIFY_FAILED).contains(&args.reason);
    let attempt = &shown.escrow().attempt;
    let market = shown.front.market.get();
    if by_matcher {
        require(shown.is_by(&market.matcher), MarketError::NotReleaser)?;
        require(
            args.voucher.sequence.is_zero(),
            MarketError::VoucherUnexpected,
        )?;
        require(attempt.sequence.is_zero(), MarketError::AlreadyPaid)?;
    } else {
        require(
            args.reason == reasons::NODE_LOST || args.reason == reasons::MACHINE_VANISHED,
            MarketError::ReasonNotAllowed,
        )?;
        require(
            shown.is_by(&attempt.meter) || shown.is_by(&market.meter),
            MarketError::NotReleaser,
        )?;
        shown.book_if_shown()?;
        require(
            shown.by_meter || !shown.booked,
            MarketError::CountersignerNotMeter,
        )?;
        let silent_since = ending::last_sign(&shown.escrow().attempt);
        let lost_after = shown.front.config.get().params.lost_after;
        require(
            shown.now >= silent_since.after(lost_after)?,
            MarketError::ReleaseTooEarly,
        )?;
    }
    let end = OneSided {
        now: shown.now,
        reason: args.reason,
        by_quit: false,
        can_be_loss: !by_matcher,
    };
    shown.end(&end)
}
