//! A voucher that somebody shows to an instruction that pays.

use pinocchio::{AccountView, Address};

use super::{
    ending::{self, Closing, OneSided, Parting},
    payment::{Front, Payment, Told},
    usage::{Accepted, Latest, Usage},
};
use crate::{
    checks::require,
    cpi,
    errors::MarketError,
    events::{Contested, EscrowClosed},
    messages::VoucherArgs,
    quantities::{Count, Key, Millis, Time, Tokens},
    state::{escrow_state, Attempt, Escrow},
    sysvars, Ctx,
};

/// What is shown, by whom, where, and when; and what has become of it.
pub struct Shown<'a> {
    /// The program that runs.
    pub program_id: &'a Address,
    /// The voucher.
    pub voucher: &'a VoucherArgs,
    /// The accounts that every paying instruction begins with.
    pub front: &'a mut Front,
    /// The instructions sysvar.
    pub instructions: &'a AccountView,
    /// When.
    pub now: Time,
    /// What has been unlocked meanwhile.
    pub refunded: Tokens,
    /// Whether a voucher was accepted and booked: the transfers are still to be made.
    pub booked: bool,
    /// Whether the attempt's meter countersigned it.
    pub by_meter: bool,
    which: Which,
    payment: Payment,
}

/// Which of the escrow's two attempts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    Last,
    Contested,
}

/// A voucher with the accounts of a paying instruction, and its account of the rent where it has one.
///
/// # Safety
/// The instruction declares `Front` as its first accounts (`begins_with_front`).
///
/// # Errors
/// `WrongAccountCount`, and all of `Front::check`.
#[inline(never)]
pub unsafe fn show<'a>(
    ctx: Ctx<'a>,
    voucher: &'a VoucherArgs,
) -> Result<(Shown<'a>, Option<&'a mut AccountView>), MarketError> {
    // SAFETY: the caller's promise.
    let (front, rest) = unsafe { ctx.accounts.split::<Front>() }?;
    let (rent_payer, instructions) = match rest {
        [instructions, _] => (None, instructions),
        [rent_payer, instructions, _] => (Some(rent_payer), instructions),
        _ => return Err(MarketError::WrongAccountCount),
    };
    front.check(ctx.program_id)?;
    let shown = Shown {
        program_id: ctx.program_id,
        voucher,
        front,
        instructions,
        now: sysvars::now()?,
        refunded: Tokens::ZERO,
        booked: false,
        by_meter: false,
        which: Which::Last,
        payment: Payment::NONE,
    };
    Ok((shown, rent_payer))
}

impl Shown<'_> {
    /// The escrow.
    #[inline(always)]
    #[must_use]
    pub fn escrow(&self) -> &Escrow {
        self.front.escrow.get()
    }

    /// Whether the submitter has this key.
    #[inline(always)]
    #[must_use]
    pub fn is_by(&self, key: &Key) -> bool {
        key.is(&self.front.submitter)
    }

    #[inline(never)]
    fn book(&mut self, latest: Latest, time_left: Option<Millis>) -> Result<(), MarketError> {
        let front = &mut *self.front;
        let (escrow_key, node_key) = (Key::of(&front.escrow), Key::of(&front.node));
        let escrow = front.escrow.get_mut();
        let (wallet, stop_at) = (escrow.wallet, escrow.stop_at);
        let attempt = attempt_mut(escrow, self.which);
        require(attempt.node == node_key, MarketError::WrongNode)?;
        let usage = Usage {
            program_id: self.program_id,
            config: front.config.get(),
            escrow: &escrow_key,
            wallet: &wallet,
            node_key: &front.node.get().node_key,
            submitter: &Key::of(&front.submitter),
            instructions: self.instructions,
            latest,
            stop_at,
            time_left,
        };
        let mut accepted = Accepted::NONE;
        self.by_meter = usage.accept(attempt, self.voucher, &mut accepted)?;
        self.booked = true;
        self.payment.book(front, &accepted, self.now)
    }

    /// Of the running attempt.
    ///
    /// # Errors
    /// `WrongNode`, and all of `Usage::accept`.
    #[inline(never)]
    pub fn book_running(&mut self) -> Result<(), MarketError> {
        let left = self.escrow().time_left()?;
        self.book_last(left)
    }

    /// Of the last attempt, whether it runs or has ended by a voucher of both sides.
    ///
    /// # Errors
    /// `WrongNode`, and all of `Usage::accept`.
    #[inline(never)]
    pub fn book_last(&mut self, time_left: Millis) -> Result<(), MarketError> {
        self.book(Latest::Now(self.now), Some(time_left))
    }

    /// Of the contested attempt, inside its window: paid from the reserve, and the loss is decided anew.
    ///
    /// # Errors
    /// `NoContest`, `ContestWindowPassed`, `WrongNode`, `CountersignerNotMeter`, and all of
    /// `Usage::accept`.
    #[inline(never)]
    pub fn book_contested(&mut self) -> Result<(), MarketError> {
        require(self.escrow().is_contested(), MarketError::NoContest)?;
        let released_at = self.escrow().contest.released_at;
        let window = self.front.config.get().params.contest;
        require(
            self.now <= released_at.after(window)?,
            MarketError::ContestWindowPassed,
        )?;
        self.which = Which::Contested;
        self.book(Latest::Released(released_at), None)?;
        require(self.by_meter, MarketError::CountersignerNotMeter)?;
        self.decide()?;
        let front = &*self.front;
        let contest = &front.escrow.get().contest;
        Contested {
            escrow: Key::of(&front.escrow),
            attempt: contest.attempt.number,
            node: Key::of(&front.node),
            metered_at: contest.attempt.metered_at,
            loss: contest.loss,
            reserve: contest.attempt.exposure,
            compensation: contest.compensation,
        }
        .emit();
        Ok(())
    }

    #[inline(never)]
    fn decide(&mut self) -> Result<(), MarketError> {
        let front = &mut *self.front;
        ending::decide(
            &mut front.escrow.get_mut().contest,
            front.node.get_mut(),
            front.pool.get(),
            front.config.get(),
            self.now,
        )
    }

    /// Refuses to end an attempt that doesn't run, or isn't this node's.
    ///
    /// # Errors
    /// `EscrowIsClosing`, `EscrowNotAssigned`, `WrongNode`.
    #[inline(never)]
    pub fn require_running(&self) -> Result<(), MarketError> {
        let escrow = self.escrow();
        match escrow.state {
            escrow_state::ASSIGNED => {}
            escrow_state::CLOSING => return Err(MarketError::EscrowIsClosing),
            _ => return Err(MarketError::EscrowNotAssigned),
        }
        require(
            escrow.attempt.node.is(&self.front.node),
            MarketError::WrongNode,
        )
    }

    /// Books the voucher of the running attempt, if one is shown.
    ///
    /// # Errors
    /// As `book_running`.
    #[inline(never)]
    pub fn book_if_shown(&mut self) -> Result<(), MarketError> {
        if self.voucher.sequence.is_zero() {
            return Ok(());
        }
        self.book_running()
    }

    /// Ends the running attempt from one side, and, when the escrow was cancelled, closes it: it has no
    /// further attempt. Tells both, and makes the transfers of the voucher shown.
    ///
    /// # Errors
    /// `ContestBusy`, and as `pay`.
    #[inline(never)]
    pub fn end(&mut self, end: &OneSided) -> Result<(), MarketError> {
        let front = &mut *self.front;
        self.refunded = Parting {
            config: front.config.get(),
            key: Key::of(&front.escrow),
            escrow: front.escrow.get_mut(),
            vault: front.vault.get_mut(),
            allowance: front.allowance.get_optional_mut(self.program_id),
            node: front.node.get_mut(),
            pool: front.pool.get(),
            by: &Key::of(&front.submitter),
        }
        .end(end)?;
        self.pay()
    }

    /// Closes the escrow in the books.
    ///
    /// # Errors
    /// As `Closing::close`.
    #[inline(never)]
    pub fn close(
        &mut self,
        reason: crate::quantities::Reason,
    ) -> Result<EscrowClosed, MarketError> {
        let front = &mut *self.front;
        let closed = Closing {
            key: Key::of(&front.escrow),
            vault: front.vault.get_mut(),
            allowance: front.allowance.get_optional_mut(self.program_id),
            now: self.now,
            reason,
        }
        .close(front.escrow.get_mut())?;
        self.refunded = closed.refunded;
        Ok(closed)
    }

    /// Makes the transfers of the booked voucher, if there is one, and tells of them.
    ///
    /// # Errors
    /// As `Payment::transfer`.
    #[inline(never)]
    pub fn pay(&mut self) -> Result<(), MarketError> {
        if !self.booked {
            return Ok(());
        }
        let front = &mut *self.front;
        self.payment.transfer(front)?;
        let key = Key::of(&front.escrow);
        let escrow = front.escrow.get_mut();
        let wallet = escrow.wallet;
        let attempt = &*attempt_mut(escrow, self.which);
        self.payment.tell(&Told {
            escrow: &key,
            attempt,
            voucher: self.voucher,
            countersigner: if self.by_meter {
                &attempt.meter
            } else {
                &wallet
            },
            refunded: self.refunded,
        });
        Ok(())
    }

    /// The number of the contested attempt; 0: none.
    #[inline(always)]
    #[must_use]
    pub fn contested(&self) -> Count {
        self.escrow().contest.attempt.number
    }
}

#[inline(always)]
fn attempt_mut(escrow: &mut Escrow, which: Which) -> &mut Attempt {
    match which {
        Which::Last => &mut escrow.attempt,
        Which::Contested => &mut escrow.contest.attempt,
    }
}

/// Tells that an escrow is closed, and closes the account unless a contest keeps it.
///
/// # Errors
/// As `cpi::close`.
pub fn finish(
    closed: Option<EscrowClosed>,
    escrow: &mut AccountView,
    rent_payer: &mut AccountView,
) -> Result<(), MarketError> {
    let Some(closed) = closed else {
        return Ok(());
    };
    closed.emit();
    if closed.contested.get() {
        return Ok(());
    }
    cpi::close(escrow, rent_payer)
}
