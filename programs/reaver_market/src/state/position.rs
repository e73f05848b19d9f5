use super::Pool;
use crate::{
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
    pub fn settle(&mut self, pool: &Pool) -> Result<(), MarketError> {
        let fees = math::earned_floor(&self.shares, &pool.fees.minus(self.fees_paid)?)?;
        let emission = math::earned_floor(&self.shares, &pool.emission.minus(self.emission_paid)?)?;
        self.fees_earned = self.fees_earned.plus(Tokens::new(fees))?;
        self.emission_earned = self.emission_earned.plus(Stake::new(emission))?;
        self.fees_paid = pool.fees;
        self.emission_paid = pool.emission;
        Ok(())
    }
}
