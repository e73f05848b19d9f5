use super::Pool;
use crate::{
    checks::require,
    errors::MarketError,
    math,
    quantities::{Accumulator, Bool, Count, Key, Number, Shares, Stake, Tokens},
};

account! {
    /// One owner's shares of a pool.
    Position, reserved 32 {
        pool: Key,
        owner: Key,
        shares: Shares,
        /// The pool's fee accumulator when the position was last settled.
        fees_paid: Accumulator,
        /// The same for emission.
        emission_paid: Accumulator,
        fees_earned: Tokens,
        emission_earned: Stake,
        /// The index of the next ticket.
        next_ticket: Number,
        /// Tickets not yet withdrawn.
        tickets: Count,
        /// Made at registration: its shares are the bond.
        is_operator: Bool,
        rent_payer: Key,
    }
}

impl Position {
    /// Credits what the shares earned since the last time: before every change of their number.
    ///
    /// # Errors
    /// `MathOverflow`, `MathUnderflow`.
    #[inline(never)]
    pub fn settle(&mut self, pool: &Pool) -> Result<(), MarketError> {
        let fees = math::earned_floor(&self.shares, &pool.fees.minus(self.fees_paid)?)?;
        let emission = math::earned_floor(&self.shares, &pool.emission.minus(self.emission_paid)?)?;
        self.fees_earned.grow(Tokens::new(fees))?;
        self.emission_earned.grow(Stake::new(emission))?;
        self.fees_paid = pool.fees;
        self.emission_paid = pool.emission;
        Ok(())
    }

    /// Checks that it is a position of that pool, and whose.
    ///
    /// # Errors
    /// `WrongPosition`, `NotPositionOwner`.
    #[inline(never)]
    pub fn require_of(&self, pool: &Key, owner: &Key) -> Result<(), MarketError> {
        require(self.pool == *pool, MarketError::WrongPosition)?;
        require(self.owner == *owner, MarketError::NotPositionOwner)
    }

    /// As `require_of`, of a delegator.
    ///
    /// # Errors
    /// As `require_of`, and `OperatorPosition`.
    pub fn require_delegators(&self, pool: &Key, owner: &Key) -> Result<(), MarketError> {
        self.require_of(pool, owner)?;
        require(!self.is_operator.get(), MarketError::OperatorPosition)
    }

    /// As `require_of`, of the operator.
    ///
    /// # Errors
    /// `WrongPosition`.
    #[inline(never)]
    pub fn require_operators(&self, pool: &Key, operator: &Key) -> Result<(), MarketError> {
        require(
            self.pool == *pool && self.owner == *operator && self.is_operator.get(),
            MarketError::WrongPosition,
        )
    }

    /// Whether nothing of it is left: no shares, no tickets, no earnings.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shares.is_zero()
            && self.tickets.is_zero()
            && self.fees_earned.is_zero()
            && self.emission_earned.is_zero()
    }
}
