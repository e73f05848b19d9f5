use super::Position;
use crate::{
    checks::require,
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
        let mut purse = Purse {
            accumulator: self.fees,
            remainder: self.fees_remainder,
            shares: self.active_shares,
        };
        let commission = purse.book(reward.get(), self.commission_bps)?;
        self.fees = purse.accumulator;
        self.fees_remainder = purse.remainder;
        self.commission_fees = self.commission_fees.plus(Tokens::new(commission))?;
        self.fees_unclaimed = self.fees_unclaimed.plus(reward)?;
        Ok(reward)
    }

    /// Books emission as `book_fees` books fees, and returns the commission. The caller sends nothing to a
    /// pool without active shares: who would have earned it?
    ///
    /// # Errors
    /// `MathOverflow`, also without any share.
    pub fn book_emission(&mut self, reward: Stake, now: Time) -> Result<Stake, MarketError> {
        self.roll_commission(now);
        let mut purse = Purse {
            accumulator: self.emission,
            remainder: self.emission_remainder,
            shares: self.active_shares,
        };
        let commission = Stake::new(purse.book(reward.get(), self.commission_bps)?);
        self.emission = purse.accumulator;
        self.emission_remainder = purse.remainder;
        self.commission_emission = self.commission_emission.plus(commission)?;
        self.emission_unclaimed = self.emission_unclaimed.plus(reward)?;
        Ok(commission)
    }

    /// What the stake vault must at least hold: both buckets and the emission that waits.
    ///
    /// # Errors
    /// `MathOverflow`.
    #[inline(never)]
    pub fn recorded_stake(&self) -> Result<Stake, MarketError> {
        self.active_stake
            .plus(self.unbonding_stake)?
            .plus(self.emission_unclaimed)
    }

    /// Stake that has arrived becomes shares of a position, at the price of the moment. Returns the shares.
    ///
    /// # Errors
    /// `AmountZero` when the stake is worth no share.
    #[inline(never)]
    pub fn join(&mut self, position: &mut Position, stake: Stake) -> Result<Shares, MarketError> {
        position.settle(self)?;
        let shares = self.active().shares_for_floor(stake)?;
        require(!shares.is_zero(), MarketError::AmountZero)?;
        position.shares = position.shares.plus(shares)?;
        self.active_stake = self.active_stake.plus(stake)?;
        self.active_shares = self.active_shares.plus(shares)?;
        if position.is_operator.get() {
            self.bond_shares = position.shares;
        }
        self.invariant(position)?;
        Ok(shares)
    }

    /// Shares of a position leave for the unbonding bucket, at both buckets' prices of the moment. Never
    /// refused for being worth nothing.
    ///
    /// # Errors
    /// `AmountZero`, `SharesInsufficient`.
    #[inline(never)]
    pub fn leave(&mut self, position: &mut Position, shares: &Shares) -> Result<Left, MarketError> {
        require(!shares.is_zero(), MarketError::AmountZero)?;
        require(*shares <= position.shares, MarketError::SharesInsufficient)?;
        position.settle(self)?;
        let stake = self.active().stake_for_floor(shares)?;
        let unbonding = self.unbonding().shares_for_floor(stake)?;
        position.shares = position.shares.minus(*shares)?;
        self.active_shares = self.active_shares.minus(*shares)?;
        self.active_stake = self.active_stake.minus(stake)?;
        self.unbonding_shares = self.unbonding_shares.plus(unbonding)?;
        self.unbonding_stake = self.unbonding_stake.plus(stake)?;
        if position.is_operator.get() {
            self.bond_shares = position.shares;
        }
        self.invariant(position)?;
        Ok(Left {
            stake,
            shares: unbonding,
        })
    }

    /// Shares of the unbonding bucket leave the pool. Returns what they are worth.
    ///
    /// # Errors
    /// `MathUnderflow`.
    #[inline(never)]
    pub fn withdraw(&mut self, shares: &Shares) -> Result<Stake, MarketError> {
        let stake = self.unbonding().stake_for_floor(shares)?;
        self.unbonding_shares = self.unbonding_shares.minus(*shares)?;
        self.unbonding_stake = self.unbonding_stake.minus(stake)?;
        Ok(stake)
    }

    /// Takes what a position has earned, the operator's with the commission.
    ///
    /// # Errors
    /// `MathUnderflow`.
    #[inline(never)]
    pub fn take_earned(&mut self, position: &mut Position) -> Result<Earned, MarketError> {
        position.settle(self)?;
        let mut earned = Earned {
            fees: position.fees_earned,
            emission: position.emission_earned,
        };
        if position.is_operator.get() {
            earned.fees = earned.fees.plus(self.commission_fees)?;
            earned.emission = earned.emission.plus(self.commission_emission)?;
            self.commission_fees = Tokens::ZERO;
            self.commission_emission = Stake::ZERO;
        }
        position.fees_earned = Tokens::ZERO;
        position.emission_earned = Stake::ZERO;
        self.fees_unclaimed = self.fees_unclaimed.minus(earned.fees)?;
        self.emission_unclaimed = self.emission_unclaimed.minus(earned.emission)?;
        Ok(earned)
    }

    /// The bond is the operator's position, and a part of all shares.
    fn invariant(&self, position: &Position) -> Result<(), MarketError> {
        require(
            self.bond_shares <= self.active_shares
                && position.shares <= self.active_shares
                && (!position.is_operator.get() || position.shares == self.bond_shares),
            MarketError::ConservationBroken,
        )
    }
}

/// What left the active bucket, and what it became.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(Debug))]
pub struct Left {
    /// Its worth.
    pub stake: Stake,
    /// Its shares of the unbonding bucket.
    pub shares: Shares,
}

/// What a position is paid.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "bpf"), derive(Debug))]
pub struct Earned {
    /// Of the fees.
    pub fees: Tokens,
    /// Of the emission.
    pub emission: Stake,
}

/// One kind of reward per share.
struct Purse {
    accumulator: Accumulator,
    remainder: Accumulator,
    // in here rather than beside it: the back end has five argument registers
    shares: Shares,
}

impl Purse {
    /// Shares out a reward behind the commission, which is returned.
    #[inline(never)]
    fn book(&mut self, reward: u64, bps: Bps) -> Result<u64, MarketError> {
        let reward = Tokens::new(reward);
        let commission = math::share_floor(reward, bps)?;
        let rest = reward.minus(commission)?;
        let (growth, remainder) = math::accrue(rest.get(), &self.remainder, &self.shares)?;
        self.accumulator = self.accumulator.plus(growth)?;
        self.remainder = remainder;
        Ok(commission.get())
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
