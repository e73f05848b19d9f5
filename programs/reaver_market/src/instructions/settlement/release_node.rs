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
    checks::{self, require},
    errors::MarketError,
    messages::VoucherArgs,
    paying,
    quantities::{Key, Reason},
    reasons,
    settlement::{
        ending::{self, OneSided},
        shown::{Paying, Shown, Till},
    },
    state::escrow_state,
    sysvars, Ctx,
};

instruction! {
    /// Ends an attempt from the market's side.
    release_node {
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
            reason: Reason,
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
    require(
        books.escrow.state != escrow_state::CLOSING,
        MarketError::EscrowIsClosing,
    )?;
    require(
        books.escrow.state == escrow_state::ASSIGNED,
        MarketError::EscrowNotAssigned,
    )?;
    require(
        books.escrow.attempt.node == shown.node,
        MarketError::WrongNode,
    )?;
    let by_matcher =
        (reasons::IMAGE_UNAVAILABLE..=reasons::VERIFY_FAILED).contains(&args.reason);
    let booked = if by_matcher {
        require(
            shown.submitter == books.market.matcher,
            MarketError::NotReleaser,
        )?;
        require(
            args.voucher.sequence.is_zero(),
            MarketError::VoucherUnexpected,
        )?;
        require(
            books.escrow.attempt.sequence.is_zero(),
            MarketError::AlreadyPaid,
        )?;
        None
    } else {
        require(
            args.reason == reasons::NODE_LOST || args.reason == reasons::MACHINE_VANISHED,
            MarketError::ReasonNotAllowed,
        )?;
        require(
            shown.submitter == books.escrow.attempt.meter || shown.submitter == books.market.meter,
            MarketError::NotReleaser,
        )?;
        let booked = if args.voucher.sequence.is_zero() {
            None
        } else {
            Some(shown.of_running(&mut books)?)
        };
        if let Some(booked) = &booked {
            require(
                booked.accepted.by_meter,
                MarketError::CountersignerNotMeter,
            )?;
        }
        let silent_since = ending::last_sign(&books.escrow.attempt);
        require(
            shown.now >= silent_since.after(books.config.params.lost_after)?,
            MarketError::ReleaseTooEarly,
        )?;
        booked
    };
    let end = OneSided {
        now: shown.now,
        reason: args.reason,
        by_quit: false,
        can_be_loss: !by_matcher,
    };
    let refunded = shown.end(&mut books, &end)?;
    if let Some(booked) = &booked {
        let till = Till { purses: &purses, vault: states.vault,
        escrow: states.escrow, refunded };
    shown.pay(booked, &till)?;
    }
    Ok(())
}
