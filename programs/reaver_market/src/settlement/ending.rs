//! How attempts and escrows end, in the books.

use crate::{
    checks::require,
    declare::put,
    errors::MarketError,
    events::{EscrowClosed, Released},
    math,
    quantities::{Bool, Key, Millis, Number, Reason, Stake, Time, Tokens},
    state::{escrow_state, Allowance, Attempt, Config, Contest, Escrow, Node, Pool, Vault},
};

/// How an attempt counts for its node.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// As both sides wanted.
    Well,
    /// The node was lost, or left.
    Lost,
    /// The node left, and was right to.
    Quit,
}

/// Books an attempt, once, with its whole meter-countersigned amount.
///
/// Lifetime counters stop at their end rather than block anybody's way out.
///
/// # Errors
/// `MathOverflow`.
#[inline(never)]
pub fn book(
    node: &mut Node,
    attempt: &Attempt,
    outcome: Outcome,
    epoch: Number,
) -> Result<(), MarketError> {
    let amount = attempt.metered_amount;
    let protocol = math::fee_ceil(amount, attempt.protocol_bps)?;
    let one = Number::new(1);
    let slot = node.slot_mut(epoch);
    slot.protocol_fees = slot.protocol_fees.plus_at_most(protocol);
    if outcome == Outcome::Lost {
        slot.lost = slot.lost.plus_at_most(amount);
    } else {
        slot.well = slot.well.plus_at_most(amount);
    }
    match outcome {
        Outcome::Well if amount.is_zero() => {}
        Outcome::Well => {
            node.attempts_well = node.attempts_well.plus_at_most(one);
            node.amount_well = node.amount_well.plus_at_most(amount);
        }
        Outcome::Lost => {
            node.attempts_lost = node.attempts_lost.plus_at_most(one);
            node.amount_lost = node.amount_lost.plus_at_most(amount);
        }
        Outcome::Quit => {
            node.attempts_quit = node.attempts_quit.plus_at_most(one);
            node.amount_quit = node.amount_quit.plus_at_most(amount);
        }
    }
    Ok(())
}

/// Ends the running attempt by a voucher of both sides: the escrow is open again.
///
/// # Errors
/// `MathOverflow`, `MathUnderflow`.
pub fn by_both(
    escrow: &mut Escrow,
    node: &mut Node,
    config: &Config,
    now: Time,
) -> Result<(), MarketError> {
    node.exposure.shrink(escrow.attempt.exposure)?;
    node.attempts.shrink(crate::quantities::Count::new(1))?;
    escrow.attempt.exposure = Tokens::ZERO;
    book(node, &escrow.attempt, Outcome::Well, config.epoch_at(now))?;
    reopen(escrow, config, now)
}

fn reopen(escrow: &mut Escrow, config: &Config, now: Time) -> Result<(), MarketError> {
    escrow.ended_time.grow(escrow.attempt.billed)?;
    escrow.state = escrow_state::OPEN;
    escrow.assign_by = now.after(config.params.queue_limit)?;
    Ok(())
}

/// One side's end of the running attempt.
#[derive(Clone, Copy)]
pub struct OneSided {
    /// When.
    pub now: Time,
    /// Why.
    pub reason: Reason,
    /// By the node itself.
    pub by_quit: bool,
    /// Whether it can be a loss at all.
    pub can_be_loss: bool,
}

/// The moment after which nothing of an attempt is known.
#[must_use]
pub fn last_sign(attempt: &Attempt) -> Time {
    attempt.last_at.max(attempt.assigned_at)
}

/// Ends the running attempt from one side: opens the contest, keeps what could still be owed as its
/// reserve, and lets the rest go.
///
/// # Errors
/// `ContestBusy`.
#[inline(never)]
pub fn by_one(
    escrow: &mut Escrow,
    node: &mut Node,
    config: &Config,
    end: &OneSided,
) -> Result<(), MarketError> {
    require(!escrow.is_contested(), MarketError::ContestBusy)?;
    let attempt = &mut escrow.attempt;
    let unknown = end
        .now
        .since(last_sign(attempt))
        .plus(config.params.skew)
        .unwrap_or(Millis::MAX);
    // a product beyond 64 bits is above every exposure
    let reserve = math::amount_due_ceil(attempt.price, unknown)
        .unwrap_or(Tokens::MAX)
        .min(attempt.exposure);
    node.exposure.shrink(attempt.exposure.minus(reserve)?)?;
    let contest = &mut escrow.contest;
    attempt.exposure = reserve;
    put(&mut contest.attempt, attempt);
    attempt.exposure = Tokens::ZERO;
    contest.released_at = end.now;
    contest.reason = end.reason;
    contest.by_quit = Bool::new(end.by_quit);
    contest.can_be_loss = Bool::new(end.can_be_loss);
    contest.loss = Bool::NO;
    contest.compensation = Stake::ZERO;
    reopen(escrow, config, end.now)
}

/// Decides by the latest meter-countersigned voucher whether the contested attempt is a loss, and notes
/// the compensation: out of the operator's bond, as far as it isn't held already and the epoch's cap
/// leaves it.
///
/// # Errors
/// `MathOverflow`, `MathUnderflow`.
#[inline(never)]
pub fn decide(
    contest: &mut Contest,
    node: &mut Node,
    pool: &Pool,
    config: &Config,
    now: Time,
) -> Result<(), MarketError> {
    let lost_after = config.params.lost_after;
    let once = contest.attempt.metered_at.after(lost_after)?;
    let loss = contest.can_be_loss.get()
        && if contest.by_quit.get() {
            contest.released_at < once.after(lost_after)?.after(lost_after)?
        } else {
            contest.released_at >= once
        };
    contest.loss = Bool::new(loss);
    node.held.shrink(contest.compensation)?;
    contest.compensation = if loss {
        let bond = pool.bond()?;
        let due = math::share_floor(contest.attempt.amount, config.params.compensation_bps)?;
        let room = math::slash_room_floor(
            bond,
            node.compensated_in(config.epoch_at(now)),
            config.params.slash_cap_bps,
        )?;
        math::stake_of_tokens_floor(due, config.params.exposure_rate)
            .unwrap_or(Stake::MAX)
            .min(bond.minus_at_most(node.held))
            .min(room)
    } else {
        Stake::ZERO
    };
    node.held.grow(contest.compensation)?;
    Ok(())
}

/// The two sides of a running attempt that one of them ends.
pub struct Parting<'a> {
    /// The deployment.
    pub config: &'a Config,
    /// The escrow.
    pub escrow: &'a mut Escrow,
    /// Its address.
    pub key: Key,
    /// Its wallet's vault.
    pub vault: &'a mut Vault,
    /// The allowance it was opened under.
    pub allowance: Option<&'a mut Allowance>,
    /// The attempt's node.
    pub node: &'a mut Node,
    /// And its pool.
    pub pool: &'a Pool,
    /// Who says so.
    pub by: &'a Key,
}

impl Parting<'_> {
    /// Ends the attempt, and, when the escrow was cancelled, closes it: it has no further attempt. Tells
    /// both, and returns what was unlocked.
    ///
    /// # Errors
    /// `ContestBusy`.
    #[inline(never)]
    pub fn end(self, end: &OneSided) -> Result<Tokens, MarketError> {
        let escrow = self.escrow;
        by_one(escrow, self.node, self.config, end)?;
        decide(
            &mut escrow.contest,
            self.node,
            self.pool,
            self.config,
            end.now,
        )?;
        let contest = &escrow.contest;
        Released {
            escrow: self.key,
            attempt: contest.attempt.number,
            node: contest.attempt.node,
            by: *self.by,
            reason: end.reason,
            loss: contest.loss,
            reserve: contest.attempt.exposure,
            compensation: contest.compensation,
            released_at: end.now,
        }
        .emit();
        if !escrow.is_stopping() {
            return Ok(Tokens::ZERO);
        }
        let closed = Closing {
            key: self.key,
            vault: self.vault,
            allowance: self.allowance,
            now: end.now,
            reason: end.reason,
        }
        .close(escrow)?;
        closed.emit();
        Ok(closed.refunded)
    }
}

/// What closing an escrow changes beside it.
pub struct Closing<'a> {
    /// The escrow's address.
    pub key: Key,
    /// Its wallet's vault.
    pub vault: &'a mut Vault,
    /// The allowance it was opened under.
    pub allowance: Option<&'a mut Allowance>,
    /// When.
    pub now: Time,
    /// Why.
    pub reason: Reason,
}

impl Closing<'_> {
    /// Unlocks everything but a contest's reserve, and returns the event to be told. With a contest open
    /// the escrow goes on in state closing, without one the caller closes the account.
    ///
    /// # Errors
    /// `MathUnderflow`.
    #[inline(never)]
    pub fn close(self, escrow: &mut Escrow) -> Result<EscrowClosed, MarketError> {
        let refunded = escrow.left()?;
        unlock(escrow, self.vault, self.allowance, (refunded, self.now))?;
        escrow.state = escrow_state::CLOSING;
        Ok(EscrowClosed {
            escrow: self.key,
            wallet: escrow.wallet,
            reason: self.reason,
            paid: escrow.paid,
            refunded,
            contested: Bool::new(escrow.is_contested()),
        })
    }
}

/// Gives a part of the deposit back to the vault's free balance, and to the allowance's caps.
///
/// # Errors
/// `MathUnderflow`.
pub fn unlock(
    escrow: &Escrow,
    vault: &mut Vault,
    allowance: Option<&mut Allowance>,
    (amount, now): (Tokens, Time),
) -> Result<(), MarketError> {
    vault.locked.shrink(amount)?;
    if let Some(allowance) = allowance {
        allowance.give_back(amount, escrow.day_opened, now)?;
    }
    Ok(())
}

/// Checks that the allowance passed is the escrow's, or that none is where it needs none.
///
/// # Errors
/// `AllowanceMissing`, `AllowanceUnexpected`, `WrongAllowance`.
pub fn check_allowance(escrow: &Escrow, allowance: Option<&Allowance>) -> Result<(), MarketError> {
    match allowance {
        Some(allowance) => {
            require(
                escrow.is_under_allowance(),
                MarketError::AllowanceUnexpected,
            )?;
            require(
                allowance.wallet == escrow.wallet && allowance.market == escrow.market,
                MarketError::WrongAllowance,
            )
        }
        None => require(!escrow.is_under_allowance(), MarketError::AllowanceMissing),
    }
}
