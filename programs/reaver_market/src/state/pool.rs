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
        self.commission_fees.grow(Tokens::new(commission))?;
        self.fees_unclaimed.grow(reward)?;
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
        self.commission_emission.grow(commission)?;
        self.emission_unclaimed.grow(reward)?;
        Ok(commission)
    }

    /// What a slash may take of the unbonding bucket: all but what keeps it alive. The active bucket may die,
    /// for then nobody joins it; this one takes whoever leaves, and far below that price 128 bits wouldn't
    /// count their shares any more, so that one ticket left lying could hold everybody in the pool.
    #[must_use]
    pub fn unbonding_slashable(&self) -> Stake {
        let least = self.unbonding().least_alive_ceil().unwrap_or(Stake::MAX);
        self.unbonding_stake.minus_at_most(least)
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
    /// `AmountZero` when the stake is worth no share; `MathOverflow` where a bucket could come to hold all
    /// that 64 bits count: beside its virtual unit nobody could leave it any more.
    #[inline(never)]
    pub fn join(&mut self, position: &mut Position, stake: Stake) -> Result<Shares, MarketError> {
        self.recorded_stake()?.plus(stake)?.plus(Stake::new(1))?;
        position.settle(self)?;
        let shares = self.active().shares_for_floor(stake)?;
        require(!shares.is_zero(), MarketError::AmountZero)?;
        position.shares.grow(shares)?;
        self.active_stake.grow(stake)?;
        self.active_shares.grow(shares)?;
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
        position.shares.shrink(*shares)?;
        self.active_shares.shrink(*shares)?;
        self.active_stake.shrink(stake)?;
        self.unbonding_shares.grow(unbonding)?;
        self.unbonding_stake.grow(stake)?;
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
        self.unbonding_shares.shrink(*shares)?;
        self.unbonding_stake.shrink(stake)?;
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
            earned.fees.grow(self.commission_fees)?;
            earned.emission.grow(self.commission_emission)?;
            self.commission_fees = Tokens::ZERO;
            self.commission_emission = Stake::ZERO;
        }
        position.fees_earned = Tokens::ZERO;
        position.emission_earned = Stake::ZERO;
        self.fees_unclaimed.shrink(earned.fees)?;
        self.emission_unclaimed.shrink(earned.emission)?;
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
        self.accumulator.grow(growth)?;
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

    /// A pool and its positions, and what a bookkeeper beside them counts.
    struct Ledger {
        pool: Pool,
        positions: Vec<Position>,
        tickets: Vec<Shares>,
        /// Stake put in less stake taken out and slashed.
        held: u128,
        booked: u128,
        paid: u128,
        /// Each may have lost less than one base unit of each reward.
        settlements: u128,
    }

    fn account<T: Account>() -> T {
        let mut data = vec![0u8; T::LEN];
        *begin::<T>(&mut data, 255).unwrap()
    }

    impl Ledger {
        fn new(owners: usize) -> Self {
            let mut positions: Vec<Position> = (0..owners).map(|_| account()).collect();
            positions[0].is_operator = crate::quantities::Bool::YES;
            Self {
                pool: account(),
                positions,
                tickets: Vec::new(),
                held: 0,
                booked: 0,
                paid: 0,
                settlements: 0,
            }
        }

        fn join(&mut self, owner: usize, stake: u64) {
            let minted = self
                .pool
                .join(&mut self.positions[owner], Stake::new(stake))
                .unwrap();
            // a price of one unit per share is never exceeded, so nobody can be priced out
            assert!(minted.get() >= u128::from(stake));
            self.held += u128::from(stake);
            self.settlements += 1;
            self.check();
        }

        fn leave(&mut self, owner: usize, shares: u128) {
            let before = self
                .pool
                .active()
                .stake_for_floor(&Shares::new(shares))
                .unwrap();
            let left = self
                .pool
                .leave(&mut self.positions[owner], &Shares::new(shares))
                .unwrap();
            assert_eq!(left.stake, before);
            let worth = self
                .pool
                .unbonding()
                .stake_for_floor(&left.shares)
                .unwrap()
                .get();
            assert!(worth <= left.stake.get() && left.stake.get() - worth <= 1);
            self.tickets.push(left.shares);
            self.settlements += 1;
            self.check();
        }

        fn withdraw(&mut self, ticket: usize) -> u64 {
            let shares = self.tickets.swap_remove(ticket);
            let stake = self.pool.withdraw(&shares).unwrap().get();
            self.held -= u128::from(stake);
            self.check();
            stake
        }

        fn claim(&mut self, owner: usize) {
            let earned = self.pool.take_earned(&mut self.positions[owner]).unwrap();
            assert_eq!(
                earned.fees.get(),
                earned.emission.get(),
                "both rewards are booked alike here"
            );
            self.paid += u128::from(earned.fees.get());
            self.settlements += 1;
            self.check();
        }

        fn reward(&mut self, amount: u64, now: i64) {
            if self.pool.active_shares.is_zero() || amount == 0 {
                return;
            }
            let now = Time::new(now);
            assert_eq!(
                self.pool.book_fees(Tokens::new(amount), now).unwrap().get(),
                amount
            );
            self.pool.book_emission(Stake::new(amount), now).unwrap();
            self.booked += u128::from(amount);
            self.check();
        }

        /// What over-claims and compensations leave of the buckets: stake falls, shares stay.
        fn slash(&mut self, bps: u16) {
            let most = [Stake::MAX, self.pool.unbonding_slashable()];
            let buckets = [&mut self.pool.active_stake, &mut self.pool.unbonding_stake];
            for (stake, most) in buckets.into_iter().zip(most) {
                let part = math::stake_part_floor(*stake, Bps::new(bps))
                    .unwrap()
                    .min(most);
                *stake = stake.minus(part).unwrap();
                self.held -= u128::from(part.get());
            }
            self.check();
        }

        fn check(&self) {
            let pool = &self.pool;
            let shares: u128 = self.positions.iter().map(|p| p.shares.get()).sum();
            let tickets: u128 = self.tickets.iter().map(|t| t.get()).sum();
            assert_eq!(shares, pool.active_shares.get());
            assert_eq!(tickets, pool.unbonding_shares.get());
            assert_eq!(self.positions[0].shares, pool.bond_shares);
            assert_eq!(
                self.held,
                u128::from(pool.active_stake.get()) + u128::from(pool.unbonding_stake.get())
            );
            assert!(u128::from(pool.active_stake.get()) <= pool.active_shares.get());
            assert!(u128::from(pool.unbonding_stake.get()) <= pool.unbonding_shares.get());
            assert_eq!(
                u128::from(pool.fees_unclaimed.get()),
                self.booked - self.paid
            );
            assert_eq!(
                u128::from(pool.emission_unclaimed.get()),
                self.booked - self.paid
            );
            // what waits for each position can be paid, to all of them
            let mut copy = *pool;
            for position in &self.positions {
                copy.take_earned(&mut { *position }).unwrap();
            }
        }

        /// Everybody claims, leaves and withdraws. What is lost is the documented rounding.
        fn everybody_leaves(&mut self) {
            for owner in 0..self.positions.len() {
                self.claim(owner);
                let shares = self.positions[owner].shares.get();
                if shares != 0 {
                    self.leave(owner, shares);
                }
            }
            while !self.tickets.is_empty() {
                self.withdraw(0);
            }
            let lost = self.booked - self.paid;
            // less than one unit for every time a position was settled, and one for the remainder
            assert!(
                lost <= self.settlements + 1,
                "{lost} lost in {} settlements",
                self.settlements
            );
            assert_eq!(
                self.pool.active_shares.get() + self.pool.unbonding_shares.get(),
                0
            );
            assert_eq!(self.held, 0, "an empty bucket holds nothing");
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Join(usize, u64),
        Leave(usize, u16),
        Withdraw(usize),
        Claim(usize),
        Reward(u64),
        Slash(u16),
        Commission(u16),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let owner = 0usize..7;
        let stake = prop_oneof![1u64..10, 1u64..1_000_000_000, Just(u64::MAX / 1_000)];
        proptest::collection::vec(
            prop_oneof![
                (owner.clone(), stake).prop_map(|(o, s)| Step::Join(o, s)),
                (owner.clone(), 0u16..=10_000).prop_map(|(o, part)| Step::Leave(o, part)),
                (0usize..50).prop_map(Step::Withdraw),
                owner.prop_map(Step::Claim),
                prop_oneof![1u64..1_000, Just(1u64 << 40)].prop_map(Step::Reward),
                (0u16..=5_000).prop_map(Step::Slash),
                (0u16..=10_000).prop_map(Step::Commission),
            ],
            1..80,
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn whatever_happens_to_a_pool_everybody_gets_out(steps in steps()) {
            let mut ledger = Ledger::new(7);
            for step in steps {
                match step {
                    Step::Join(owner, stake) => {
                        let dead = ledger.pool.active().is_dead();
                        if !dead && u64::try_from(ledger.held + u128::from(stake)).is_ok() {
                            ledger.join(owner, stake);
                        }
                    }
                    Step::Leave(owner, part) => {
                        let all = ledger.positions[owner].shares.get();
                        let shares = all / 10_000 * u128::from(part) + all % 10_000 * u128::from(part) / 10_000;
                        if shares != 0 {
                            ledger.leave(owner, shares);
                        }
                    }
                    Step::Withdraw(ticket) => {
                        if ticket < ledger.tickets.len() {
                            ledger.withdraw(ticket);
                        }
                    }
                    Step::Claim(owner) => ledger.claim(owner),
                    Step::Reward(amount) => ledger.reward(amount, 1),
                    Step::Slash(bps) => ledger.slash(bps),
                    Step::Commission(bps) => ledger.pool.commission_bps = Bps::new(bps),
                }
            }
            ledger.everybody_leaves();
        }

        #[test]
        fn the_whole_supply_split_among_many_earns_ten_years_of_rewards(
            cuts in proptest::collection::vec(any::<u64>(), 1..40),
            rewards in proptest::collection::vec(prop_oneof![0u64..10, 1u64..1 << 40, Just(u64::MAX / 3_650)], 1..20),
            commission in 0u16..=10_000,
        ) {
            // positions from one base unit to nearly everything: the gaps between sorted cuts
            let mut cuts: Vec<u64> = cuts.into_iter().chain([0, 1, u64::MAX - 1]).collect();
            cuts.retain(|cut| *cut < u64::MAX);
            cuts.sort_unstable();
            cuts.dedup();
            let mut ledger = Ledger::new(cuts.len() - 1);
            ledger.pool.commission_bps = Bps::new(commission);
            for (owner, pair) in cuts.windows(2).enumerate() {
                ledger.join(owner, pair[1] - pair[0]);
            }
            prop_assert_eq!(ledger.pool.active_stake.get(), u64::MAX - 1);
            let one_more = ledger.pool.join(&mut ledger.positions[0], Stake::new(1));
            prop_assert_eq!(one_more, Err(MarketError::MathOverflow));
            for day in 0..3_650usize {
                ledger.reward(rewards[day % rewards.len()], day as i64);
                ledger.claim(day % (cuts.len() - 1));
            }
            ledger.everybody_leaves();
        }
    }

    #[test]
    fn nobody_s_price_is_moved_by_the_first_share_or_by_dust() {
        let mut ledger = Ledger::new(3);
        ledger.join(1, 1);
        ledger.join(2, 1_000_000);
        for _ in 0..100 {
            ledger.leave(1, 1);
            ledger.join(1, 1);
        }
        let all = ledger.positions[2].shares.get();
        ledger.leave(2, all);
        let last = ledger.tickets.len() - 1;
        assert_eq!(ledger.withdraw(last), 1_000_000);
    }

    #[test]
    fn a_dead_pool_lets_everybody_leave_with_nothing() {
        let mut ledger = Ledger::new(2);
        ledger.join(0, 4_000_000);
        ledger.join(1, 4_000_000);
        ledger.leave(1, 1_000_000);
        ledger.slash(10_000);
        assert!(ledger.pool.active().is_dead());
        ledger.everybody_leaves();
    }

    /// One who stays behind in the unbonding bucket and has himself slashed again and again would otherwise
    /// make its shares so many that a later delegator couldn't leave.
    #[test]
    fn no_number_of_slashes_holds_anybody_in_the_pool() {
        let mut ledger = Ledger::new(2);
        for _ in 0..1_000 {
            if !ledger.pool.active().is_dead() {
                ledger.join(0, 1_000_000);
            }
            let half = ledger.positions[0].shares.get() / 2;
            if half != 0 {
                ledger.leave(0, half);
            }
            ledger.slash(5_000);
        }
        let rest = ledger.positions[0].shares.get();
        if rest != 0 {
            ledger.leave(0, rest);
        }
        let supply = u64::MAX - 1 - ledger.held as u64;
        ledger.join(1, supply);
        let shares = ledger.positions[1].shares.get();
        ledger.leave(1, shares);
        ledger.everybody_leaves();
    }

    #[test]
    fn only_what_is_there_leaves() {
        let mut ledger = Ledger::new(1);
        ledger.join(0, 10);
        let mut leave = |shares| {
            ledger
                .pool
                .leave(&mut ledger.positions[0], &Shares::new(shares))
                .err()
        };
        assert_eq!(leave(0), Some(MarketError::AmountZero));
        assert_eq!(leave(11), Some(MarketError::SharesInsufficient));
    }
}
