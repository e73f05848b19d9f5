//! A voucher that somebody shows to an instruction that pays.

use pinocchio::{error::ProgramError, AccountView, Address, ProgramResult};

use super::{
    ending,
    payment::{self, Books, Payment, Purses, States, Told},
    usage::{Accepted, Latest, Usage},
};
use crate::{
    checks::require,
    cpi,
    errors::MarketError,
    events::{Contested, EscrowClosed},
    messages::VoucherArgs,
    quantities::{Key, Millis, Time, Tokens},
    state::{escrow_state, Attempt},
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
    /// What is unlocked at the same time.
    pub refunded: Tokens,
}

/// A voucher that was accepted and booked: the transfers are still to be made.
pub struct Booked {
    /// The attempt after it.
    pub attempt: Attempt,
    /// What it meant.
    pub accepted: Accepted,
    /// What it costs.
    pub payment: Payment,
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

    fn book<'b>(
        &'b self,
        books: &mut Books<'b>,
        usage: &Usage<'b>,
        mut attempt: Attempt,
    ) -> Result<Booked, ProgramError> {
        let accepted = usage.accept(&mut attempt, self.voucher)?;
        let payment = payment::book(books, &attempt, &accepted, (self.payout, self.now))?;
        Ok(Booked {
            attempt,
            accepted,
            payment,
        })
    }

    /// Of the running attempt.
    ///
    /// # Errors
    /// `EscrowNotAssigned`, `WrongNode`, and all of `Usage::accept`.
    #[inline(never)]
    pub fn of_running<'b>(&'b self, books: &mut Books<'b>) -> Result<Booked, ProgramError> {
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
    ) -> Result<Booked, ProgramError> {
        require(
            books.escrow.attempt.node == self.node,
            MarketError::WrongNode,
        )?;
        let usage = self.usage(books, Latest::Now(self.now), Some(time_left));
        let booked = self.book(books, &usage, books.escrow.attempt)?;
        books.escrow.attempt = booked.attempt;
        Ok(booked)
    }

    /// Of the contested attempt, inside its window: paid from the reserve, and the loss is decided anew.
    ///
    /// # Errors
    /// `NoContest`, `ContestWindowPassed`, `WrongNode`, `CountersignerNotMeter`, and all of
    /// `Usage::accept`.
    #[inline(never)]
    pub fn of_contested<'b>(&'b self, books: &mut Books<'b>) -> Result<Booked, ProgramError> {
        require(books.escrow.is_contested(), MarketError::NoContest)?;
        let released_at = books.escrow.contest.released_at;
        let contested = books.escrow.contest.attempt;
        require(
            self.now <= released_at.after(books.config.params.contest)?,
            MarketError::ContestWindowPassed,
        )?;
        require(contested.node == self.node, MarketError::WrongNode)?;
        let usage = self.usage(books, Latest::Released(released_at), None);
        let booked = self.book(books, &usage, contested)?;
        require(booked.accepted.by_meter, MarketError::CountersignerNotMeter)?;
        let contest = &mut books.escrow.contest;
        contest.attempt = booked.attempt;
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

    /// Makes the transfers of a booked voucher and tells of them.
    ///
    /// # Errors
    /// As `Payment::transfer`.
    #[inline(never)]
    pub fn pay(&self, booked: &Booked, till: &Till<'_>) -> ProgramResult {
        booked.payment.transfer(till.purses, till.vault)?;
        booked.payment.emit(&Told {
            escrow: self.escrow,
            attempt: &booked.attempt,
            voucher: self.voucher,
            accepted: &booked.accepted,
            refunded: till.refunded,
        });
        Ok(())
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
) -> ProgramResult {
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
