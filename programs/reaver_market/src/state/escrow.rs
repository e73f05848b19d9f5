use super::ClassId;
use crate::{
    errors::MarketError,
    quantities::{Bool, Bps, Count, Hash, Key, Millis, Number, Price, Reason, Stake, Time, Tokens},
};

/// Values of `Escrow.state`.
pub mod escrow_state {
    /// Waits for an assignment, or for its end.
    pub const OPEN: u8 = 0;
    /// An attempt is running.
    pub const ASSIGNED: u8 = 1;
    /// Over, but for the contest window.
    pub const CLOSING: u8 = 2;
}

/// The longest time an escrow may allow: ten years.
pub const MAX_DURATION: Millis = Millis::new(315_360_000_000);
/// The most attempts an escrow may allow.
pub const MAX_ATTEMPTS: u32 = 64;

record! {
    /// The running attempt, or the last one when none runs.
    Attempt {
        /// From 1; 0: there was none yet.
        number: Count,
        node: Key,
        /// The agreed price per hour.
        price: Price,
        /// The market's meter when the attempt was assigned.
        meter: Key,
        protocol_bps: Bps,
        /// All fees: the protocol's and the market's.
        fee_bps: Bps,
        assigned_at: Time,
        /// When the meter went on, fixed by the first accepted voucher; 0: none yet.
        started_at: Time,
        sequence: Number,
        /// The last settled voucher's time; the assignment's before any.
        last_at: Time,
        /// The last settled meter-countersigned voucher's time; the assignment's before any.
        metered_at: Time,
        billed: Millis,
        /// Paid so far.
        amount: Tokens,
        /// Of it, what the meter countersigned.
        metered_amount: Tokens,
        /// What the attempt may still be paid.
        exposure: Tokens,
    }
}

record! {
    /// An attempt that one side ended, while it can be contested.
    Contest {
        /// The attempt as it was ended; number 0: no contest is open. Its exposure is the reserve:
        /// what may still be paid for it.
        attempt: Attempt,
        /// When the attempt was ended.
        released_at: Time,
        /// Why it ended.
        reason: Reason,
        /// Ended by the node itself.
        by_quit: Bool,
        /// Whether it can be a loss at all.
        can_be_loss: Bool,
        /// Whether it is one, by the latest meter-countersigned voucher.
        loss: Bool,
        /// The compensation noted, in stake units.
        compensation: Stake,
    }
}

account! {
    /// A deposit, its terms, and the attempts to earn it.
    Escrow, reserved 64 {
        wallet: Key,
        /// The wallet, or the market that opened under its allowance.
        opener: Key,
        market: Key,
        nonce: Number,
        /// The class asked for; zero: any.
        class_id: ClassId,
        /// sha256(spec hash, sha256(idempotency key)).
        terms_hash: Hash,
        ceiling_price: Price,
        state: u8,
        deposit: Tokens,
        paid: Tokens,
        /// The longest time that may be billed, over all attempts.
        max_time: Millis,
        /// Billed by attempts that have ended.
        ended_time: Millis,
        attempts_allowed: Count,
        opened_at: Time,
        assign_by: Time,
        /// After a cancellation: billing stops here; 0: not cancelled.
        stop_at: Time,
        /// The UTC day on which it was opened.
        day_opened: Number,
        rent_payer: Key,
        attempt: Attempt,
        contest: Contest,
    }
}

impl Escrow {
    /// What neither is paid nor reserved.
    ///
    /// # Errors
    /// `MathUnderflow`: can't be.
    pub fn left(&self) -> Result<Tokens, MarketError> {
        self.deposit
            .minus(self.paid)?
            .minus(self.contest.attempt.exposure)
    }

    /// Billable time that no ended attempt has used.
    ///
    /// # Errors
    /// `MathUnderflow`: can't be.
    pub fn time_left(&self) -> Result<Millis, MarketError> {
        self.max_time.minus(self.ended_time)
    }

    /// Whether the market opened it under an allowance.
    #[must_use]
    pub fn is_under_allowance(&self) -> bool {
        self.opener != self.wallet
    }

    /// Whether a contest is open.
    #[must_use]
    pub const fn is_contested(&self) -> bool {
        !self.contest.attempt.number.is_zero()
    }

    /// Whether it was cancelled while an attempt was running.
    #[must_use]
    pub const fn is_stopping(&self) -> bool {
        !self.stop_at.is_zero()
    }
}
