//! A voucher that somebody shows to an instruction that pays.

use pinocchio::{AccountView, Address};

use super::{
    ending::{self, Closing, OneSided},
    payment::{self, Books, Payment, Purses, States, Told},
    usage::{Accepted, Latest, Usage},
};
use crate::{
    checks::{self, require},
    cpi,
    errors::MarketError,
    events::{Contested, EscrowClosed, Released},
    messages::VoucherArgs,
    quantities::{Key, Millis, Time, Tokens},
    state::{escrow_state, Attempt, Escrow},
};

/// What is shown, by whom, where, and when.
pub struct Shown<'a> {
    /// The program that runs.
    pub program_id: &'a Address,
    /// The voucher.
    pub voucher: &'a VoucherArgs,
    /// Who signed the transaction for this instruction.
    pub submitter: Key,
    /// The instructions sysvar.
    pub instructions: &'a AccountView,
    /// The escrow's address.
    pub escrow: Key,
    /// The node's address.
    pub node: Key,
    /// The operator's payout account.
    pub payout: &'a AccountView,
    /// When.
    pub now: Time,
}

/// Where the money of a booked voucher is moved.
pub struct Till<'a> {
    /// The token accounts.
    pub purses: &'a Purses<'a>,
    /// The vault, which may spend from its token account.
    pub vault: &'a AccountView,
    /// The escrow.
    pub escrow: &'a AccountView,
    /// What is unlocked at the same time.
    pub refunded: Tokens,
}

/// A voucher that was accepted and booked: the transfers are still to be made.
pub struct Booked {
    /// What it meant.
    pub accepted: Accepted,
    /// What it costs.
    pub payment: Payment,
    /// Which attempt's it was.
    which: Which,
}

/// Which of the escrow's two attempts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    Last,
    Contested,
}

impl Shown<'_> {
    fn usage<'b>(
        &'b self,
        books: &Books<'b>,
        latest: Latest,
        time_left: Option<Millis>,
    ) -> Usage<'b> {
        Usage {
            program_id: self.program_id,
            config: books.config,
            escrow: self.escrow,
            wallet: books.escrow.wallet,
            node_key: books.node.node_key,
            submitter: self.submitter,
            instructions: self.instructions,
            latest,
            stop_at: books.escrow.stop_at,
            time_left,
        }
    }

    #[inline(never)]
    fn book<'b>(
        &'b self,
        books: &mut Books<'b>,
        usage: &Usage<'b>,
        which: Which,
    ) -> Result<Booked, MarketError> {
        let attempt = books.attempt(which);
        require(attempt.node == self.node, MarketError::WrongNode)?;
        let accepted = usage.accept(attempt, self.voucher)?;
        let payment = payment::book(books, &accepted, self.payout, self.now)?;
        Ok(Booked {
            accepted,
            payment,
            which,
        })
    }

    /// Of the running attempt.
    ///
    /// # Errors
    /// `EscrowNotAssigned`, `WrongNode`, and all of `Usage::accept`.
    #[inline(never)]
    pub fn of_running<'b>(&'b self, books: &mut Books<'b>) -> Result<Booked, MarketError> {
        require(
            books.escrow.state == escrow_state::ASSIGNED,
            MarketError::EscrowNotAssigned,
        )?;
        let left = books.escrow.time_left()?;
        self.of_last(books, left)
    }

    /// Of the last attempt, whether it runs or has ended by a voucher of both sides.
    ///
    /// # Errors
    /// `WrongNode`, and all of `Usage::accept`.
    pub fn of_last<'b>(
        &'b self,
        books: &mut Books<'b>,
        time_left: Millis,
    ) -> Result<Booked, MarketError> {
        let usage = self.usage(books, Latest::Now(self.now), Some(time_left));
        self.book(books, &usage, Which::Last)
    }

    /// Of the contested attempt, inside its window: paid from the reserve, and the loss is decided anew.
    ///
    /// # Errors
    /// `NoContest`, `ContestWindowPassed`, `WrongNode`, `CountersignerNotMeter`, and all of
    /// `Usage::accept`.
    #[inline(never)]
    pub fn of_contested<'b>(&'b self, books: &mut Books<'b>) -> Result<Booked, MarketError> {
        require(books.escrow.is_contested(), MarketError::NoContest)?;
        let released_at = books.escrow.contest.released_at;
        require(
            self.now <= released_at.after(books.config.params.contest)?,
            MarketError::ContestWindowPassed,
        )?;
        let usage = self.usage(books, Latest::Released(released_at), None);
        let booked = self.book(books, &usage, Which::Contested)?;
        require(booked.accepted.by_meter, MarketError::CountersignerNotMeter)?;
        let contest = &mut books.escrow.contest;
        ending::decide(contest, books.node, books.pool, books.config, self.now)?;
        Contested {
            escrow: self.escrow,
            attempt: contest.attempt.number,
            node: self.node,
            metered_at: contest.attempt.metered_at,
            loss: contest.loss,
            reserve: contest.attempt.exposure,
            compensation: contest.compensation,
        }
        .emit();
        Ok(booked)
    }

    /// Ends the running attempt from one side, and, when the escrow was cancelled, closes it: it has no
    /// further attempt. Tells both, and returns what was unlocked.
    ///
    /// # Errors
    /// `ContestBusy`.
    #[inline(never)]
    pub fn end(&self, books: &mut Books<'_>, end: &OneSided) -> Result<Tokens, MarketError> {
        ending::by_one(books.escrow, books.node, books.config, end)?;
        let contest = &mut books.escrow.contest;
        ending::decide(contest, books.node, books.pool, books.config, self.now)?;
        Released {
            escrow: self.escrow,
            attempt: contest.attempt.number,
            node: self.node,
            by: self.submitter,
            reason: end.reason,
            loss: contest.loss,
            reserve: contest.attempt.exposure,
            compensation: contest.compensation,
            released_at: end.now,
        }
        .emit();
        if !books.escrow.is_stopping() {
            return Ok(Tokens::ZERO);
        }
        let closed = Closing {
            key: self.escrow,
            vault: books.vault,
            allowance: books.allowance.as_deref_mut(),
            now: self.now,
            reason: end.reason,
        }
        .close(books.escrow)?;
        closed.emit();
        Ok(closed.refunded)
    }

    /// Makes the transfers of a booked voucher and tells of them.
    ///
    /// # Errors
    /// As `Payment::transfer`.
    #[inline(never)]
    pub fn pay(&self, booked: &Booked, till: &Till<'_>) -> Result<(), MarketError> {
        booked.payment.transfer(till.purses, till.vault)?;
        let escrow: &Escrow = checks::load(till.escrow, self.program_id)?;
        booked.payment.tell(&Told {
            escrow: self.escrow,
            attempt: match booked.which {
                Which::Last => &escrow.attempt,
                Which::Contested => &escrow.contest.attempt,
            },
            voucher: self.voucher,
            countersigner: &booked.accepted.countersigner,
            refunded: till.refunded,
        });
        Ok(())
    }
}

impl Books<'_> {
    fn attempt(&mut self, which: Which) -> &mut Attempt {
        match which {
            Which::Last => &mut self.escrow.attempt,
            Which::Contested => &mut self.escrow.contest.attempt,
        }
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

/// The accounts of a paying instruction, by what they are for.
pub struct Paying<'a> {
    /// Program accounts.
    pub states: States<'a>,
    /// Token accounts.
    pub purses: Purses<'a>,
}

/// Sorts the accounts of a paying instruction: they have the same names in each.
#[macro_export]
macro_rules! paying {
    ($program_id:expr, $accounts:ident) => {
        $crate::settlement::shown::Paying {
            states: $crate::settlement::payment::States {
                program_id: $program_id,
                config: $accounts.config,
                market: $accounts.market,
                escrow: $accounts.escrow,
                vault: $accounts.vault,
                allowance: $accounts.allowance,
                node: $accounts.node,
                pool: $accounts.pool,
            },
            purses: $crate::settlement::payment::Purses {
                vault: $accounts.vault_tokens,
                market: $accounts.market_fees,
                pool: $accounts.pool_fees,
                payout: $accounts.payout,
            },
        }
    };
}
