//! Specification
//!
//! Signs: anyone (the submitter); the voucher's two sides by Ed25519 instructions, or one of them as
//! submitter: the node, and the attempt's meter or the wallet.
//! Changes: pays what the attempt's amount has grown by to operator, stakers, market and protocol. `ended`
//! ends the attempt and opens the escrow for the next one; `final` pays and closes it: the rest is unlocked,
//! the rent goes back to who paid it. After a cancellation `ended` closes too. With a contest open, closing
//! means the state closing: the contest's reserve stays locked.
//! A final voucher closes as the running attempt's, or the last one's when none runs (then it can't raise the
//! amount). One of the contested attempt pays from the reserve, and closes only when no other runs.
//! Refuses: everything that `Usage::accept` refuses, other attempts, another node, an escrow in closing.



use crate::{
    checks::{self, require},
    errors::MarketError,
    events::EscrowClosed,
    messages::{voucher_state, VoucherArgs},
    paying,
    quantities::{Count, Key, Tokens},
    settlement::{
        ending::{self, Closing},
        payment::Books,
        shown::{finish, Booked, Paying, Shown, Till},
    },
    state::escrow_state,
    sysvars, Ctx,
};

instruction! {
    /// Pays what a voucher of both sides says; ends the attempt or the escrow if it says so.
    settle {
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
            rent_payer: [writable],
            instructions: [],
            token_program: [],
        }
        args {
            attempt: Count,
            voucher: VoucherArgs,
        }
    }
}

/// Books the voucher, and says whether the escrow closes with it.
#[inline(always)]
fn book<'b>(
    shown: &'b Shown<'b>,
    books: &mut Books<'b>,
    attempt: Count,
) -> Result<(Booked, bool), MarketError> {
    let state = shown.voucher.state;
    let escrow = &*books.escrow;
    require(
        escrow.state != escrow_state::CLOSING,
        MarketError::EscrowIsClosing,
    )?;
    require(!attempt.is_zero(), MarketError::WrongAttempt)?;
    if escrow.contest.attempt.number == attempt {
        let closes = escrow.state == escrow_state::OPEN && state == voucher_state::FINAL;
        return Ok((shown.of_contested(books)?, closes));
    }
    require(escrow.attempt.number == attempt, MarketError::WrongAttempt)?;
    if escrow.state == escrow_state::ASSIGNED {
        let booked = shown.of_running(books)?;
        if state == voucher_state::RUNNING {
            return Ok((booked, false));
        }
        ending::by_both(books.escrow, books.node, books.config, shown.now)?;
        let closes = state == voucher_state::FINAL || books.escrow.is_stopping();
        return Ok((booked, closes));
    }
    require(
        state == voucher_state::FINAL,
        MarketError::EscrowNotAssigned,
    )?;
    let billed = escrow.attempt.billed;
    require(
        shown.voucher.billed == billed,
        MarketError::FinalAmountChanged,
    )?;
    Ok((shown.of_last(books, billed)?, true))
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
        books.escrow.rent_payer.is(a.rent_payer),
        MarketError::WrongRentPayer,
    )?;
    let (booked, closes) = book(&shown, &mut books, args.attempt)?;
    let closed: Option<EscrowClosed> = if closes {
        let closing = Closing {
            key: shown.escrow,
            vault: books.vault,
            allowance: books.allowance,
            now: shown.now,
            reason: args.voucher.reason,
        };
        Some(closing.close(books.escrow)?)
    } else {
        None
    };
    let refunded = closed.as_ref().map_or(Tokens::ZERO, |event| event.refunded);
    let till = Till { purses: &purses, vault: states.vault,
        escrow: states.escrow, refunded };
    shown.pay(&booked, &till)?;
    finish(closed, states.escrow, a.rent_payer)
}
