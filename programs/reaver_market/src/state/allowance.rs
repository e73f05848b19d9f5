use super::NonceWindow;
use crate::{
    checks::require,
    errors::MarketError,
    quantities::{Key, Number, Price, Time, Tokens},
};

account! {
    /// What one market may spend for one wallet. Never closed: revoking zeroes the caps.
    Allowance, reserved 64 {
        wallet: Key,
        market: Key,
        /// The most that one escrow may lock, extensions included.
        escrow_cap: Tokens,
        /// The most that escrows of one UTC day may lock.
        day_cap: Tokens,
        /// The day that `day_used` speaks of.
        day: Number,
        day_used: Tokens,
        /// The most that all escrows may lock and spend.
        total_cap: Tokens,
        total_used: Tokens,
        /// The highest price per hour.
        max_price: Price,
        expires_at: Time,
        /// Nonces of escrows that the market opens.
        nonces: NonceWindow,
    }
}

impl Allowance {
    /// Refuses when it is revoked or expired.
    ///
    /// # Errors
    /// `AllowanceRevoked`, `AllowanceExpired`.
    pub fn require_live(&self, now: Time) -> Result<(), MarketError> {
        require(!self.total_cap.is_zero(), MarketError::AllowanceRevoked)?;
        require(now < self.expires_at, MarketError::AllowanceExpired)
    }

    fn roll(&mut self, now: Time) {
        if self.day != now.day() {
            self.day = now.day();
            self.day_used = Tokens::ZERO;
        }
    }

    /// Counts a deposit (or an extension) against the day and the total.
    ///
    /// # Errors
    /// `DayCapExceeded`, `TotalCapExceeded`.
    pub fn use_up(&mut self, amount: Tokens, now: Time) -> Result<(), MarketError> {
        self.roll(now);
        let day = self.day_used.plus(amount)?;
        let total = self.total_used.plus(amount)?;
        require(day <= self.day_cap, MarketError::DayCapExceeded)?;
        require(total <= self.total_cap, MarketError::TotalCapExceeded)?;
        self.day_used = day;
        self.total_used = total;
        Ok(())
    }

    /// Gives back what an escrow didn't spend: to the total, and to the day if it is still the day on
    /// which the escrow was opened. The day's use stops at nothing: a clock that steps back over midnight
    /// has emptied it, and must not hold an escrow open.
    ///
    /// # Errors
    /// `MathUnderflow`: more comes back than was used.
    pub fn give_back(
        &mut self,
        amount: Tokens,
        opened_day: Number,
        now: Time,
    ) -> Result<(), MarketError> {
        self.roll(now);
        self.total_used.shrink(amount)?;
        if opened_day == self.day {
            self.day_used = self.day_used.minus_at_most(amount);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{begin, Account};

    const DAY: i64 = 86_400_000;

    fn with(test: impl FnOnce(&mut Allowance)) {
        let mut data = vec![0u8; Allowance::LEN];
        let allowance: &mut Allowance = begin(&mut data, 255).unwrap();
        allowance.day_cap = Tokens::new(100);
        allowance.total_cap = Tokens::new(150);
        allowance.expires_at = Time::new(10 * DAY);
        test(allowance);
    }

    #[test]
    fn the_day_rolls_over_and_the_total_stays() {
        with(|a| {
            let n = Tokens::new;
            assert_eq!(a.use_up(n(100), Time::new(1)), Ok(()));
            assert_eq!(
                a.use_up(n(1), Time::new(DAY - 1)),
                Err(MarketError::DayCapExceeded)
            );
            assert_eq!(
                a.use_up(n(51), Time::new(DAY)),
                Err(MarketError::TotalCapExceeded)
            );
            assert_eq!(a.use_up(n(50), Time::new(DAY)), Ok(()));
            // of yesterday's escrow: back to the total, not to today's use
            assert_eq!(
                a.give_back(n(40), Number::new(0), Time::new(DAY + 5)),
                Ok(())
            );
            assert_eq!((a.day_used.get(), a.total_used.get()), (50, 110));
            assert_eq!(
                a.give_back(n(50), Number::new(1), Time::new(DAY + 5)),
                Ok(())
            );
            assert_eq!((a.day_used.get(), a.total_used.get()), (0, 60));
        });
    }

    #[test]
    fn a_clock_that_steps_back_over_midnight_blocks_no_return() {
        with(|a| {
            let n = Tokens::new;
            a.use_up(n(60), Time::new(DAY - 1)).unwrap();
            a.use_up(n(10), Time::new(DAY)).unwrap();
            assert_eq!(
                a.give_back(n(60), Number::new(0), Time::new(DAY - 1)),
                Ok(())
            );
            assert_eq!((a.day_used.get(), a.total_used.get()), (0, 10));
        });
    }

    #[test]
    fn revoked_and_expired_are_told_apart() {
        with(|a| {
            assert_eq!(a.require_live(Time::new(10 * DAY - 1)), Ok(()));
            assert_eq!(
                a.require_live(Time::new(10 * DAY)),
                Err(MarketError::AllowanceExpired)
            );
            a.total_cap = Tokens::ZERO;
            assert_eq!(
                a.require_live(Time::new(0)),
                Err(MarketError::AllowanceRevoked)
            );
        });
    }
}
