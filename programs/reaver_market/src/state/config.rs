use crate::{
    checks::require,
    errors::MarketError,
    math,
    quantities::{Bps, Count, Hash, Key, Millis, Number, Rate, Stake, Time, Tokens},
};

/// Bits of `Config.paused`. Each closes a way in, never a way out.
pub mod pause {
    /// open_escrow
    pub const OPEN: u8 = 1;
    /// extend_escrow
    pub const EXTEND: u8 = 2;
    /// assign
    pub const ASSIGN: u8 = 4;
    /// register_node, register_market
    pub const REGISTER: u8 = 8;
    /// delegate
    pub const DELEGATE: u8 = 16;
    /// bond
    pub const BOND: u8 = 32;
    /// grant_allowance
    pub const GRANT: u8 = 64;
    /// All of them.
    pub const ALL: u8 = 127;
}

record! {
    /// The numbers that the admin may change, within bounds.
    Params {
        /// Payment base units that 1,000,000 stake base units stand for.
        exposure_rate: Rate,
        /// How many times its stake a node may hold in escrows.
        exposure_multiple: Count,
        /// The protocol's part of every payment.
        protocol_bps: Bps,
        /// The highest fee of its own that a market may take.
        max_market_bps: Bps,
        /// The stakers' part of the market's fee.
        node_share_bps: Bps,
        /// A lost attempt's compensation, as a part of what was paid for it.
        compensation_bps: Bps,
        /// An over-claim's slash, of each bucket.
        overclaim_bps: Bps,
        /// The most that an epoch may take, of the bond and of each bucket.
        slash_cap_bps: Bps,
        /// By how much the emission's schedule falls per epoch.
        decay_bps: Bps,
        /// A pool's emission, at most this part of its protocol fees.
        emission_cap_bps: Bps,
        /// The largest step of a commission.
        commission_step_bps: Bps,
        /// Silence after which a node counts as lost.
        lost_after: Millis,
        /// Free time from assignment to ready.
        ready_limit: Millis,
        /// How long a node's claim is good.
        claim_limit: Millis,
        /// By how much clocks may differ.
        skew: Millis,
        /// How long a one-sided end can be contested.
        contest: Millis,
        /// How long after its last moment an assigned escrow may be reaped.
        reap_grace: Millis,
        /// How long an open escrow waits for an assignment.
        queue_limit: Millis,
        /// How long a cancelled attempt may still bill.
        stop_after: Millis,
        /// From unbonding to withdrawal.
        unbonding: Millis,
        /// From announcing a commission to its effect.
        commission_delay: Millis,
        /// From announcing a market's fee to its effect.
        fee_delay: Millis,
        /// The smallest deposit of an escrow.
        minimum_deposit: Tokens,
    }
}

account! {
    /// The deployment: who administers it, its mints, its numbers.
    Config, reserved 128 {
        admin: Key,
        /// Who may accept the administration; zero: nobody.
        pending_admin: Key,
        /// The cluster's genesis hash: no sysvar gives it, and every signed message names it.
        genesis_hash: Hash,
        payment_mint: Key,
        stake_mint: Key,
        /// Where the protocol's fees are swept to.
        protocol_token: Key,
        compensation_vault: Key,
        emission_vault: Key,
        paused: u8,
        params: Params,
        /// Length of an epoch; never changes.
        epoch_length: Millis,
        /// When epoch 0 began.
        epoch_start: Time,
        /// The next epoch to be closed.
        next_epoch: Number,
        /// What the schedule gives that epoch.
        scheduled_emission: Stake,
        /// What closed epochs may still draw from the emission vault.
        committed_emission: Stake,
        /// What was ever distributed.
        distributed_emission: Stake,
    }
}

impl Config {
    /// The epoch of a moment.
    #[inline(never)]
    #[must_use]
    pub fn epoch_at(&self, now: Time) -> Number {
        let length = self.epoch_length.get();
        if length == 0 {
            return Number::ZERO; // can't be: initialize refuses it
        }
        Number::new(now.since(self.epoch_start).get() / length)
    }

    /// Whether a moment lies in the first half of its epoch: then the last one's weights are registered.
    #[inline(always)]
    #[must_use]
    pub fn is_first_half(&self, now: Time) -> bool {
        let length = self.epoch_length.get();
        // a length of zero can't be: initialize refuses it
        length != 0 && now.since(self.epoch_start).get() % length < length / 2
    }

    /// Ends the next epoch to be closed. Returns its emission: what the schedule gives, as far as the
    /// vault holds it beside what closed epochs may still draw. The schedule falls in any case.
    ///
    /// # Errors
    /// `MathOverflow`.
    pub fn end_epoch(&mut self, vault: Stake) -> Result<Stake, MarketError> {
        let emission = self
            .scheduled_emission
            .min(vault.minus_at_most(self.committed_emission));
        let kept = Bps::new(math::BPS_ONE as u16).minus(self.params.decay_bps)?;
        self.scheduled_emission = math::stake_part_floor(self.scheduled_emission, kept)?;
        self.committed_emission.grow(emission)?;
        self.next_epoch.grow(Number::new(1))?;
        Ok(emission)
    }

    /// Whether a way in is closed.
    #[inline(always)]
    #[must_use]
    pub const fn is_paused(&self, bit: u8) -> bool {
        self.paused & bit != 0
    }
}

/// One day.
const DAY: Millis = Millis::new(86_400_000);
/// One year.
const YEAR: Millis = Millis::new(31_536_000_000);
/// The smallest window: the clock counts whole seconds.
const SECOND: Millis = Millis::new(1_000);

impl Params {
    /// Checks every number against its bounds, whoever sets it.
    ///
    /// The bounds are wide enough for a local chain and narrow enough that no admin can take a
    /// position hostage: windows end, fees leave something to the node, unbonding outlasts a contest.
    ///
    /// # Errors
    /// `ParameterOutOfBounds`.
    #[inline(never)]
    pub fn require_bounds(&self, epoch_length: Millis) -> Result<(), MarketError> {
        let one = Bps::new(math::BPS_ONE as u16);
        let parts = [
            self.node_share_bps,
            self.compensation_bps,
            self.overclaim_bps,
            self.slash_cap_bps,
            self.decay_bps,
            self.emission_cap_bps,
            self.commission_step_bps,
            self.protocol_bps.plus(self.max_market_bps)?,
        ];
        // each with the longest it may be
        let windows = [
            (self.lost_after, DAY),
            (self.ready_limit, DAY),
            (self.claim_limit, DAY),
            (self.stop_after, DAY),
            (self.contest, YEAR),
            (self.reap_grace, YEAR),
            (self.queue_limit, YEAR),
            (self.unbonding, YEAR),
            (self.commission_delay, YEAR),
            (self.fee_delay, YEAR),
            (epoch_length, YEAR),
        ];
        let multiple = self.exposure_multiple.get();
        let holds = parts.iter().all(|part| *part <= one)
            && windows
                .iter()
                .all(|(window, most)| *window >= SECOND && window <= most)
            && self.skew <= self.lost_after
            && self.unbonding >= epoch_length.plus(epoch_length)?
            && self.unbonding >= self.contest
            && !self.exposure_rate.is_zero()
            && !self.minimum_deposit.is_zero()
            && (1..=1_000).contains(&multiple);
        require(holds, MarketError::ParameterOutOfBounds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantities::Shares;
    use crate::state::{begin, Account};
    use proptest::prelude::*;

    /// Epochs of a day.
    const TEN_YEARS: u64 = 3_652;

    fn config(first: u64, decay: u16) -> Vec<u8> {
        let mut data = vec![0u8; Config::LEN];
        let config: &mut Config = begin(&mut data, 255).unwrap();
        config.scheduled_emission = Stake::new(first);
        config.params.decay_bps = Bps::new(decay);
        config.epoch_length = DAY;
        data
    }

    fn of(data: &mut [u8]) -> &mut Config {
        // SAFETY: `config` made it with this length.
        unsafe { &mut *data.as_mut_ptr().cast::<Config>() }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever is funded, distributed and left lying in ten years: no epoch gives more than its
        /// schedule or than the vault holds freely, and the vault always covers what is committed.
        #[test]
        fn ten_years_of_epochs_never_promise_what_the_vault_does_not_hold(
            first: u64,
            decay in 0u16..=10_000,
            funding in proptest::collection::vec(0u64..1u64 << 52, 1..40),
            draws in proptest::collection::vec(0u64..=100, 1..60),
        ) {
            let mut data = config(first, decay);
            let config = of(&mut data);
            let (mut vault, mut funded, mut drawn_ever) = (0u64, 0u128, 0u128);
            let mut waiting = std::collections::VecDeque::new();
            for epoch in 0..TEN_YEARS {
                if epoch % 97 == 0 {
                    let more = funding[(epoch / 97) as usize % funding.len()];
                    vault = vault.saturating_add(more);
                    funded += u128::from(more);
                }
                let (scheduled, committed) = (config.scheduled_emission, config.committed_emission);
                // every seventh epoch nobody registers
                let skipped = epoch % 7 == 6;
                let seen = if skipped { Stake::ZERO } else { Stake::new(vault) };
                let emission = config.end_epoch(seen).unwrap();
                prop_assert!(emission <= scheduled);
                prop_assert!(emission.get() <= vault - committed.get());
                prop_assert_eq!(emission.is_zero() || !skipped, true);
                prop_assert_eq!(config.next_epoch.get(), epoch + 1);
                prop_assert_eq!(config.committed_emission, committed.plus(emission).unwrap());
                prop_assert!(config.scheduled_emission <= scheduled);
                waiting.push_back(emission.get());
                // an epoch is distributed while the next one is closed, and then ended
                if waiting.len() > 2 {
                    let emission = waiting.pop_front().unwrap();
                    let percent = draws[epoch as usize % draws.len()];
                    let drawn = math::mul_div_floor(emission, percent, 100).unwrap();
                    vault -= drawn;
                    drawn_ever += u128::from(drawn);
                    config.committed_emission =
                        config.committed_emission.minus(Stake::new(emission)).unwrap();
                }
                prop_assert!(config.committed_emission.get() <= vault);
            }
            prop_assert!(drawn_ever <= funded);
        }

        /// The stored schedule follows first x decay^n: rounding loses less than one unit per epoch, and each
        /// loss shrinks with the schedule, so that it never adds up to more than 1 / decay units.
        #[test]
        fn ten_years_of_decay_do_not_drift(first in 0u64..1u64 << 62, decay in 1u16..=10_000) {
            let mut data = config(first, decay);
            let config = of(&mut data);
            let mut exact = first as f64;
            for _ in 0..TEN_YEARS {
                config.end_epoch(Stake::ZERO).unwrap();
                exact *= f64::from(10_000 - decay) / 10_000.0;
            }
            let stored = config.scheduled_emission.get() as f64;
            let slack = exact * 1e-9; // of the comparison's own arithmetic
            prop_assert!(stored <= exact + slack + 1.0);
            prop_assert!(stored + 10_000.0 / f64::from(decay) + slack + 1.0 >= exact);
        }

        /// However an emission is shared, the parts never exceed it, and less than a unit per part is left.
        #[test]
        fn the_parts_of_an_emission_never_exceed_it(
            emission: u64,
            weights in proptest::collection::vec(1u64..=u64::MAX, 1..50),
        ) {
            let total = Shares::new(weights.iter().map(|w| u128::from(*w)).sum());
            let parts: u128 = weights
                .iter()
                .map(|w| {
                    let part = math::weighted_floor(Stake::new(emission), Stake::new(*w), &total);
                    u128::from(part.unwrap().get())
                })
                .sum();
            prop_assert!(parts <= u128::from(emission));
            prop_assert!(u128::from(emission) - parts < weights.len() as u128);
        }

        #[test]
        fn halves_and_epochs_agree(start in 0i64..1i64 << 40, since in 0u64..1u64 << 40, length in 1_000u64..1u64 << 36) {
            let mut data = config(0, 0);
            let config = of(&mut data);
            config.epoch_start = Time::new(start);
            config.epoch_length = Millis::new(length);
            let now = Time::new(start).after(Millis::new(since)).unwrap();
            prop_assert_eq!(config.epoch_at(now).get(), since / length);
            prop_assert_eq!(config.is_first_half(now), since % length < length / 2);
        }
    }

    #[test]
    fn without_any_weight_there_is_no_part() {
        let part = math::weighted_floor(Stake::new(1), Stake::new(1), &Shares::ZERO);
        assert_eq!(part, Err(MarketError::MathOverflow));
    }
}
