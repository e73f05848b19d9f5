use crate::{
    errors::MarketError,
    math::{self, Bucket},
    quantities::{Accumulator, Bps, Count, Key, Number, Shares, Stake, Time, Tokens},
};

account! {
    /// The stake behind a node, and what it has earned.
    Pool, reserved 96 {
        node: Key,
        /// Token account of the stake.
        stake_vault: Key,
        /// Token account of fee rewards and of what the operator is owed.
        fee_vault: Key,
        stake_vault_bump: u8,
        fee_vault_bump: u8,
        active_stake: Stake,
        active_shares: Shares,
        /// The operator's own part of the active shares.
        bond_shares: Shares,
        unbonding_stake: Stake,
        unbonding_shares: Shares,
        /// Positions that exist, the operator's among them.
        positions: Count,
        /// Fee rewards per share.
        fees: Accumulator,
        fees_remainder: Accumulator,
        /// Emission per share.
        emission: Accumulator,
        emission_remainder: Accumulator,
        /// Fee rewards that nobody has claimed yet, commission included.
        fees_unclaimed: Tokens,
        /// Emission that nobody has claimed yet, commission included.
        emission_unclaimed: Stake,
        /// The operator's commission on fee rewards, until his position takes it.
        commission_fees: Tokens,
        /// The operator's commission on emission, until his position takes it.
        commission_emission: Stake,
        commission_bps: Bps,
        pending_commission_bps: Bps,
        /// When the pending commission takes effect; zero: none is pending.
        pending_commission_at: Time,
        /// The last epoch whose emission arrived, plus one.
        distributed_until: Number,
    }
}

impl Pool {
    /// The bucket that covers exposure and earns.
    #[inline(always)]
    #[must_use]
    pub const fn active(&self) -> Bucket {
        Bucket {
            stake: self.active_stake,
            shares: self.active_shares,
        }
    }

    /// The bucket that waits to be withdrawn.
    #[inline(always)]
    #[must_use]
    pub const fn unbonding(&self) -> Bucket {
        Bucket {
            stake: self.unbonding_stake,
            shares: self.unbonding_shares,
        }
    }

    /// What the operator's own shares are worth.
    ///
    /// # Errors
    /// `MathOverflow`.
    pub fn bond(&self) -> Result<Stake, MarketError> {
        self.active().stake_for_floor(&self.bond_shares)
    }

    /// Puts a commission that has become due into effect, before anything is booked with it.
    pub fn roll_commission(&mut self, now: Time) {
        if !self.pending_commission_at.is_zero() && now >= self.pending_commission_at {
            self.commission_bps = self.pending_commission_bps;
            self.pending_commission_at = Time::ZERO;
        }
    }

    /// Books a fee reward: commission first, the rest to all active shares. Returns what was taken,
    /// which is nothing when there are no shares.
    ///
    /// # Errors
    /// `MathOverflow`.
    pub fn book_fees(&mut self, reward: Tokens, now: Time) -> Result<Tokens, MarketError> {
        if self.active_shares.is_zero() || reward.is_zero() {
            return Ok(Tokens::ZERO);
        }
        self.roll_commission(now);
        let commission = math::share_floor(reward, self.commission_bps)?;
        let rest = reward.minus(commission)?;
        let (growth, remainder) =
            math::accrue(rest.get(), &self.fees_remainder, &self.active_shares)?;
        self.fees = self.fees.plus(growth)?;
        self.fees_remainder = remainder;
        self.commission_fees = self.commission_fees.plus(commission)?;
        self.fees_unclaimed = self.fees_unclaimed.plus(reward)?;
        Ok(reward)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{begin, Account};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn booked_fees_are_commission_plus_what_shares_earn(
            rewards in proptest::collection::vec(1u64..1u64<<40, 1..20),
            shares in 1u128..1u128<<50,
            bps in 0u16..=10_000,
        ) {
            let mut data = vec![0u8; Pool::LEN];
            let pool: &mut Pool = begin(&mut data, 255).unwrap();
            pool.active_shares = Shares::new(shares);
            pool.active_stake = Stake::new(shares as u64);
            pool.commission_bps = Bps::new(bps);
            for reward in &rewards {
                prop_assert_eq!(pool.book_fees(Tokens::new(*reward), Time::new(1)).unwrap().get(), *reward);
            }
            let all: u64 = rewards.iter().sum();
            let earned = math::earned_floor(&pool.active_shares, &pool.fees).unwrap();
            prop_assert_eq!(pool.fees_unclaimed.get(), all);
            prop_assert!(earned + pool.commission_fees.get() <= all);
            prop_assert!(all - earned - pool.commission_fees.get() <= 1);
        }
    }

    #[test]
    fn without_shares_nothing_is_taken_and_a_due_commission_rolls() {
        let mut data = vec![0u8; Pool::LEN];
        let pool: &mut Pool = begin(&mut data, 255).unwrap();
        assert_eq!(
            pool.book_fees(Tokens::new(9), Time::new(1)).unwrap(),
            Tokens::ZERO
        );
        pool.active_shares = Shares::new(10);
        pool.pending_commission_bps = Bps::new(5_000);
        pool.pending_commission_at = Time::new(100);
        pool.book_fees(Tokens::new(10), Time::new(99)).unwrap();
        assert_eq!(pool.commission_fees.get(), 0);
        pool.book_fees(Tokens::new(10), Time::new(100)).unwrap();
        assert_eq!(pool.commission_fees.get(), 5);
    }
}
