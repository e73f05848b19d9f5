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
    checks::require,
    errors::MarketError,
    messages::{voucher_state, VoucherArgs},
    quantities::Count,
    settlement::{
        ending,
        payment::begins_with_front,
        shown::{finish, show, Shown},
    },
    state::escrow_state,
    Ctx,
};

instruction! {
    /// Pays what a voucher of both sides says; ends the attempt or the escrow if it says so.
    settle {
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
            rent_payer: [writable],
            instructions: [],
            token_program: TokenProgram [],
        }
        args {
            attempt: Count,
            voucher: VoucherArgs,
        }
    }
}

const _: () = assert!(begins_with_front(&DECLARED));

/// Books the voucher, and says whether the escrow closes with it.
#[inline(always)]
fn book(shown: &mut Shown<'_>, attempt: Count) -> Result<bool, MarketError> {
    let (state, billed) = (shown.voucher.state, shown.voucher.billed);
    let escrow = shown.escrow();
    require(
        escrow.state != escrow_state::CLOSING,
        MarketError::EscrowIsClosing,
    )?;
    require(!attempt.is_zero(), MarketError::WrongAttempt)?;
    if escrow.contest.attempt.number == attempt {
        let closes = escrow.state == escrow_state::OPEN && state == voucher_state::FINAL;
        shown.book_contested()?;
        return Ok(closes);
    }
    require(escrow.attempt.number == attempt, MarketError::WrongAttempt)?;
    if escrow.state == escrow_state::ASSIGNED {
        shown.book_running()?;
        if state == voucher_state::RUNNING {
            return Ok(false);
        }
        let front = &mut *shown.front;
        let escrow = front.escrow.get_mut();
        ending::by_both(escrow, front.node.get_mut(), front.config.get(), shown.now)?;
        return Ok(state == voucher_state::FINAL || escrow.is_stopping());
    }
    require(
        state == voucher_state::FINAL,
        MarketError::EscrowNotAssigned,
    )?;
    let ended = escrow.attempt.billed;
    require(billed == ended, MarketError::FinalAmountChanged)?;
    shown.book_last(ended)?;
    Ok(true)
}

/// # Errors
/// Whatever the specification above refuses.
#[inline(never)]
pub fn process(ctx: Ctx<'_>) -> Result<(), MarketError> {
    let args = Args::parse(ctx.data)?;
    // SAFETY: asserted above.
    let (mut shown, rent_payer) = unsafe { show(ctx, &args.voucher) }?;
    let rent_payer = rent_payer.ok_or(MarketError::WrongAccountCount)?;
    require(
        shown.escrow().rent_payer.is(rent_payer),
        MarketError::WrongRentPayer,
    )?;
    if !book(&mut shown, args.attempt)? {
        return shown.pay();
    }
    let closed = shown.close(args.voucher.reason)?;
    shown.pay()?;
    finish(Some(closed), &mut shown.front.escrow, rent_payer)
}
