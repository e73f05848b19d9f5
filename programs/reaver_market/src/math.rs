//! Exact integer arithmetic. Nothing else in the program multiplies or divides.
//!
//! LLVM 22's BPF back end compiles no 128-bit product or quotient and no checked 64-bit product, so
//! everything is built from 32-bit limbs and wrapping operations. The name says the rounding.

use crate::{
    errors::MarketError,
    quantities::{Accumulator, Bps, Millis, Price, Rate, Shares, Stake, Tokens},
};

/// One hundred percent.
pub const BPS_ONE: u64 = 10_000;
/// Milliseconds of the hour that prices are given for.
pub const HOUR_MS: u64 = 3_600_000;
/// Stake base units that `Rate` speaks of.
pub const RATE_ONE: u64 = 1_000_000;
/// Shares that one base unit of stake must at least carry: below, the pool is dead.
pub const DEAD_SHARES_PER_UNIT: u64 = 1_000_000;

const LOW: u64 = 0xffff_ffff;

/// Full 64 x 64 -> 128 product as (high, low).
#[inline]
#[must_use]
pub const fn mul_wide(a: u64, b: u64) -> (u64, u64) {
    let (a0, a1) = (a & LOW, a >> 32);
    let (b0, b1) = (b & LOW, b >> 32);
    let p00 = a0.wrapping_mul(b0);
    let p01 = a0.wrapping_mul(b1);
    let p10 = a1.wrapping_mul(b0);
    let p11 = a1.wrapping_mul(b1);
    let mid = (p00 >> 32).wrapping_add(p01 & LOW).wrapping_add(p10 & LOW);
    let low = (p00 & LOW) | (mid << 32);
    let high = p11
        .wrapping_add(p01 >> 32)
        .wrapping_add(p10 >> 32)
        .wrapping_add(mid >> 32);
    (high, low)
}

/// (high, low) / d as (quotient, remainder); the caller makes sure that high < d.
///
/// Two digits of 32 bits, each estimated from the divisor's leading one (Knuth's algorithm D).
#[inline(never)]
const fn div_wide(high: u64, low: u64, d: u64) -> (u64, u64) {
    let shift = d.leading_zeros();
    let d = d << shift;
    let (d1, d0) = (d >> 32, d & LOW);
    let top = if shift == 0 {
        high
    } else {
        (high << shift) | (low >> (64 - shift))
    };
    let low = low << shift;
    let (q1, rest) = digit(top, low >> 32, d1, d0);
    let (q0, rest) = digit(rest, low & LOW, d1, d0);
    ((q1 << 32) | q0, rest >> shift)
}

/// One quotient digit of (top, next) by the normalised divisor (d1, d0), and the rest.
#[inline(always)]
const fn digit(top: u64, next: u64, d1: u64, d0: u64) -> (u64, u64) {
    let mut q = top / d1;
    let mut rest = top % d1;
    while q > LOW || q.wrapping_mul(d0) > ((rest << 32) | next) {
        q = q.wrapping_sub(1);
        rest = rest.wrapping_add(d1);
        if rest > LOW {
            break;
        }
    }
    let d = (d1 << 32) | d0;
    (
        q,
        (top << 32)
            .wrapping_add(next)
            .wrapping_sub(q.wrapping_mul(d)),
    )
}

/// a x b / d as (quotient, whether something remains).
#[inline]
const fn mul_div(a: u64, b: u64, d: u64) -> Result<(u64, bool), MarketError> {
    let (high, low) = mul_wide(a, b);
    if high >= d {
        return Err(MarketError::MathOverflow); // also a zero divisor
    }
    let (quotient, rest) = if high == 0 {
        (low / d, low % d)
    } else {
        div_wide(high, low, d)
    };
    Ok((quotient, rest != 0))
}

/// floor(a x b / d).
///
/// # Errors
/// `MathOverflow` on a zero divisor or a result beyond 64 bits.
#[inline(never)]
pub const fn mul_div_floor(a: u64, b: u64, d: u64) -> Result<u64, MarketError> {
    match mul_div(a, b, d) {
        Ok((quotient, _)) => Ok(quotient),
        Err(error) => Err(error),
    }
}

/// ceil(a x b / d).
///
/// # Errors
/// `MathOverflow` on a zero divisor or a result beyond 64 bits.
#[inline(never)]
pub const fn mul_div_ceil(a: u64, b: u64, d: u64) -> Result<u64, MarketError> {
    match mul_div(a, b, d) {
        Ok((quotient, false)) => Ok(quotient),
        Ok((quotient, true)) => match quotient.checked_add(1) {
            Some(quotient) => Ok(quotient),
            None => Err(MarketError::MathOverflow),
        },
        Err(error) => Err(error),
    }
}

/// What so many milliseconds cost: floor(price x ms / 3,600,000).
///
/// # Errors
/// `MathOverflow`.
pub fn amount_due_floor(price: Price, billed: Millis) -> Result<Tokens, MarketError> {
    mul_div_floor(price.get(), billed.get(), HOUR_MS).map(Tokens::new)
}

/// The most that so many milliseconds can cost: ceil(price x ms / 3,600,000).
///
/// # Errors
/// `MathOverflow`.
pub fn amount_due_ceil(price: Price, span: Millis) -> Result<Tokens, MarketError> {
    mul_div_ceil(price.get(), span.get(), HOUR_MS).map(Tokens::new)
}

/// A cumulative fee: ceil(amount x bps / 10,000).
///
/// # Errors
/// `MathOverflow`.
pub fn fee_ceil(amount: Tokens, bps: Bps) -> Result<Tokens, MarketError> {
    mul_div_ceil(amount.get(), bps.get() as u64, BPS_ONE).map(Tokens::new)
}

/// A part that is given away: floor(amount x bps / 10,000).
///
/// # Errors
/// `MathOverflow`.
pub fn share_floor(amount: Tokens, bps: Bps) -> Result<Tokens, MarketError> {
    mul_div_floor(amount.get(), bps.get() as u64, BPS_ONE).map(Tokens::new)
}

/// A part of a stake: floor(stake x bps / 10,000).
///
/// # Errors
/// `MathOverflow`.
pub fn stake_part_floor(stake: Stake, bps: Bps) -> Result<Stake, MarketError> {
    mul_div_floor(stake.get(), bps.get() as u64, BPS_ONE).map(Stake::new)
}

/// Payment units that a stake stands for: floor(stake x rate / 1,000,000) x multiple.
///
/// # Errors
/// `MathOverflow`.
pub fn exposure_limit_floor(
    stake: Stake,
    rate: Rate,
    multiple: u32,
) -> Result<Tokens, MarketError> {
    let once = mul_div_floor(stake.get(), rate.get(), RATE_ONE)?;
    mul_div_floor(once, multiple as u64, 1).map(Tokens::new)
}

/// Stake units that a payment amount stands for: floor(amount x 1,000,000 / rate).
///
/// # Errors
/// `MathOverflow`.
pub fn stake_of_tokens_floor(amount: Tokens, rate: Rate) -> Result<Stake, MarketError> {
    mul_div_floor(amount.get(), RATE_ONE, rate.get()).map(Stake::new)
}

/// How much more may be slashed in an epoch: slashed <= cap x (value + slashed).
///
/// # Errors
/// `MathOverflow`.
pub fn slash_room_floor(value: Stake, slashed: Stake, cap: Bps) -> Result<Stake, MarketError> {
    let limit = stake_part_floor(value.plus(slashed)?, cap)?;
    Ok(limit.minus_at_most(slashed))
}

/// a (128 bits) x b as three 64-bit limbs, lowest first.
// out of line: seen whole, LLVM folds the limbs back into a 128-bit product that it can't compile
#[inline(never)]
const fn mul_three(a: u128, b: u64) -> [u64; 3] {
    let (carry, low) = mul_wide(a as u64, b);
    let (high, mid) = mul_wide((a >> 64) as u64, b);
    let (mid, over) = mid.overflowing_add(carry);
    // can't overflow: the product has at most 192 bits
    [low, mid, high.wrapping_add(over as u64)]
}

/// Three limbs / d as (quotient, remainder).
#[inline(never)]
const fn div_three(n: [u64; 3], d: u128) -> Result<(u128, u128), MarketError> {
    if d == 0 {
        return Err(MarketError::MathOverflow);
    }
    if d >> 64 == 0 {
        let d = d as u64;
        if n[2] >= d {
            return Err(MarketError::MathOverflow);
        }
        let (high, rest) = div_wide(n[2], n[1], d);
        let (low, rest) = div_wide(rest, n[0], d);
        return Ok((((high as u128) << 64) | low as u128, rest as u128));
    }
    // A divisor beyond 64 bits: bit by bit. Its quotient fits into 128 bits.
    let mut rest: u128 = ((n[2] as u128) << 64) | n[1] as u128;
    let mut quotient: u128 = 0;
    if rest >= d {
        // the upper part first: at most 64 bits of quotient, since d has more than 64
        let mut part = rest;
        let mut upper: u128 = 0;
        let mut shifted = d;
        let mut bit: u128 = 1;
        while shifted <= part >> 1 {
            shifted <<= 1;
            bit <<= 1;
        }
        while bit != 0 {
            if part >= shifted {
                part -= shifted;
                upper |= bit;
            }
            shifted >>= 1;
            bit >>= 1;
        }
        rest = part;
        quotient = upper << 64;
    }
    let mut low = n[0];
    let mut step = 0;
    let mut lower: u64 = 0;
    while step < 64 {
        let carry = rest >> 127 == 1;
        rest = (rest << 1) | (low >> 63) as u128;
        low <<= 1;
        lower <<= 1;
        if carry || rest >= d {
            rest = rest.wrapping_sub(d);
            lower |= 1;
        }
        step += 1;
    }
    Ok((quotient | lower as u128, rest))
}

/// A weight's part of an emission: floor(emission x weight / total).
///
/// # Errors
/// `MathOverflow`, also without any weight.
#[inline(never)]
pub fn weighted_floor(
    emission: Stake,
    weight: Stake,
    total: &Shares,
) -> Result<Stake, MarketError> {
    let product = mul_three(emission.get() as u128, weight.get());
    let (quotient, _) = div_three(product, total.get())?;
    if quotient >> 64 != 0 {
        return Err(MarketError::MathOverflow);
    }
    Ok(Stake::new(quotient as u64))
}

/// A bucket of stake and the shares that divide it.
#[derive(Clone, Copy)]
pub struct Bucket {
    /// What it holds.
    pub stake: Stake,
    /// Into how many parts.
    pub shares: Shares,
}

impl Bucket {
    // One virtual unit and one virtual share: an empty bucket starts at one share per unit, and its
    // first owner can't set the price.
    fn price(&self) -> Result<(u64, u128), MarketError> {
        let stake = self.stake.plus(Stake::new(1))?.get();
        let shares = self.shares.plus(Shares::new(1))?.get();
        Ok((stake, shares))
    }

    /// Shares minted for a stake.
    ///
    /// # Errors
    /// `MathOverflow`.
    #[inline(always)]
    pub fn shares_for_floor(&self, stake: Stake) -> Result<Shares, MarketError> {
        let (unit, shares) = self.price()?;
        let (quotient, _) = div_three(mul_three(shares, stake.get()), unit as u128)?;
        Ok(Shares::new(quotient))
    }

    /// Shares burned for a stake.
    ///
    /// # Errors
    /// `MathOverflow`.
    #[inline(always)]
    pub fn shares_for_ceil(&self, stake: Stake) -> Result<Shares, MarketError> {
        let (unit, shares) = self.price()?;
        let (quotient, rest) = div_three(mul_three(shares, stake.get()), unit as u128)?;
        Shares::new(quotient).plus(Shares::new((rest != 0) as u128))
    }

    /// What shares are worth.
    ///
    /// # Errors
    /// `MathOverflow`.
    #[inline(always)]
    pub fn stake_for_floor(&self, shares: &Shares) -> Result<Stake, MarketError> {
        let (unit, all) = self.price()?;
        let (quotient, _) = div_three(mul_three(shares.get(), unit), all)?;
        if quotient >> 64 != 0 {
            return Err(MarketError::MathOverflow);
        }
        Ok(Stake::new(quotient as u64))
    }

    /// The least stake with which it lives: ceil(shares / 1,000,000).
    ///
    /// # Errors
    /// `MathOverflow` where 64 bits don't hold it.
    pub fn least_alive_ceil(&self) -> Result<Stake, MarketError> {
        let shares = self.shares.get();
        let limbs = [shares as u64, (shares >> 64) as u64, 0];
        let (quotient, rest) = div_three(limbs, DEAD_SHARES_PER_UNIT as u128)?;
        if quotient >> 64 != 0 {
            return Err(MarketError::MathOverflow);
        }
        Stake::new(quotient as u64).plus(Stake::new((rest != 0) as u64))
    }

    /// Whether the stake has fallen below one unit per 1,000,000 shares.
    #[inline(never)]
    #[must_use]
    pub fn is_dead(&self) -> bool {
        let (high, low) = mul_wide(self.stake.get(), DEAD_SHARES_PER_UNIT);
        (((high as u128) << 64) | low as u128) < self.shares.get()
    }
}

/// A reward shared out: (growth per share in Q64.64, new remainder).
///
/// # Errors
/// `MathOverflow`, also without any share.
#[inline(always)]
pub fn accrue(
    reward: u64,
    remainder: &Accumulator,
    shares: &Shares,
) -> Result<(Accumulator, Accumulator), MarketError> {
    let n = Accumulator::new((reward as u128) << 64)
        .plus(*remainder)?
        .get();
    let (growth, rest) = div_three([n as u64, (n >> 64) as u64, 0], shares.get())?;
    Ok((Accumulator::new(growth), Accumulator::new(rest)))
}

/// What shares earned while the accumulator grew: floor(shares x growth / 2^64).
///
/// # Errors
/// `MathOverflow`.
#[inline(always)]
pub fn earned_floor(shares: &Shares, growth: &Accumulator) -> Result<u64, MarketError> {
    let (shares, growth) = (shares.get(), growth.get());
    let low = mul_three(shares, growth as u64);
    let high = mul_three(shares, (growth >> 64) as u64);
    let (whole, over) = low[1].overflowing_add(high[0]);
    if low[2] != 0 || high[1] != 0 || high[2] != 0 || over {
        return Err(MarketError::MathOverflow);
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 192-bit reference: (a x b) / d by long division over u128 halves, bit by bit.
    fn reference(a: u128, b: u64, d: u128) -> Option<u128> {
        let mut n = [0u8; 24];
        let limbs = mul_three(a, b);
        for (i, limb) in limbs.iter().enumerate() {
            n[i * 8..i * 8 + 8].copy_from_slice(&limb.to_le_bytes());
        }
        let (mut rest, mut quotient, mut over) = (0u128, 0u128, false);
        for bit in (0..192).rev() {
            let carry = rest >> 127 == 1;
            rest = (rest << 1) | u128::from((n[bit / 8] >> (bit % 8)) & 1);
            over |= quotient >> 127 == 1;
            quotient <<= 1;
            if carry || rest >= d {
                rest = rest.wrapping_sub(d);
                quotient |= 1;
            }
        }
        (!over).then_some(quotient)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn products_match(a: u64, b: u64) {
            let p = u128::from(a) * u128::from(b);
            prop_assert_eq!(mul_wide(a, b), ((p >> 64) as u64, p as u64));
        }

        #[test]
        fn quotients_match(a: u64, b: u64, d: u64, shift in 0u32..64) {
            let d = d >> shift;
            let p = u128::from(a) * u128::from(b);
            let (floor, ceil) = if d == 0 { (None, None) } else {
                let d = u128::from(d);
                (u64::try_from(p / d).ok(), u64::try_from(p.div_ceil(d)).ok())
            };
            prop_assert_eq!(mul_div_floor(a, b, d).ok(), floor);
            prop_assert_eq!(mul_div_ceil(a, b, d).ok(), if floor.is_some() { ceil } else { None });
        }

        #[test]
        fn wide_quotients_match(a: u128, b: u64, d: u128, sa in 0u32..128, sb in 0u32..64, sd in 0u32..128) {
            let (a, b, d) = (a >> sa, b >> sb, d >> sd);
            let got = div_three(mul_three(a, b), d);
            if d == 0 {
                prop_assert!(got.is_err());
            } else {
                prop_assert_eq!(got.ok().map(|(q, _)| q), reference(a, b, d));
            }
        }

        #[test]
        fn fees_never_exceed_the_amount(amount: u64, bps in 0u16..=10_000) {
            let amount = Tokens::new(amount);
            let fee = fee_ceil(amount, Bps::new(bps)).unwrap();
            prop_assert!(fee <= amount);
            prop_assert!(share_floor(amount, Bps::new(bps)).unwrap() <= fee);
        }

        #[test]
        fn billing_in_parts_never_exceeds_billing_at_once(price in 0u64..1u64<<40, a in 0u64..1u64<<36, b in 0u64..1u64<<36) {
            let due = |ms| amount_due_floor(Price::new(price), Millis::new(ms)).unwrap().get();
            prop_assert!(due(a) + due(b) <= due(a + b));
            prop_assert!(due(a) <= amount_due_ceil(Price::new(price), Millis::new(a)).unwrap().get());
        }

        #[test]
        fn minting_and_burning_round_for_the_pool(stake in 1u64..1u64<<50, shares in 1u128..1u128<<60, put in 1u64..1u64<<50) {
            let bucket = Bucket { stake: Stake::new(stake), shares: Shares::new(shares) };
            let minted = bucket.shares_for_floor(Stake::new(put)).unwrap();
            let after = Bucket {
                stake: Stake::new(stake + put),
                shares: Shares::new(shares + minted.get()),
            };
            prop_assert!(after.stake_for_floor(&minted).unwrap().get() <= put);
            prop_assert!(bucket.shares_for_ceil(Stake::new(put)).unwrap() >= minted);
        }

        #[test]
        fn rewards_are_never_overpaid(
            rewards in proptest::collection::vec(0u64..1u64<<50, 1..30),
            owners in proptest::collection::vec(1u128..1u128<<62, 1..6),
        ) {
            let all = Shares::new(owners.iter().sum());
            let (mut acc, mut rest) = (Accumulator::ZERO, Accumulator::ZERO);
            for reward in &rewards {
                let (growth, remainder) = accrue(*reward, &rest, &all).unwrap();
                acc = acc.plus(growth).unwrap();
                rest = remainder;
            }
            let total: u128 = rewards.iter().map(|r| u128::from(*r)).sum();
            let paid: u128 = owners.iter()
                .map(|s| u128::from(earned_floor(&Shares::new(*s), &acc).unwrap()))
                .sum();
            prop_assert!(paid <= total);
            // the documented loss: less than one base unit per owner, and one for the remainder
            prop_assert!(total - paid <= owners.len() as u128 + 1);
        }
    }

    #[test]
    fn an_empty_bucket_gives_one_share_per_unit() {
        let empty = Bucket {
            stake: Stake::ZERO,
            shares: Shares::ZERO,
        };
        assert_eq!(empty.shares_for_floor(Stake::new(77)).unwrap().get(), 77);
        assert!(!empty.is_dead());
    }

    #[test]
    fn a_pool_dies_below_a_millionth() {
        let shares = Shares::new(5_000_000);
        let alive = Bucket {
            stake: Stake::new(5),
            shares,
        };
        let dead = Bucket {
            stake: Stake::new(4),
            shares,
        };
        assert!(!alive.is_dead());
        assert!(dead.is_dead());
        assert_eq!(alive.least_alive_ceil().unwrap(), alive.stake);
        let one_more = Bucket {
            stake: alive.stake,
            shares: Shares::new(5_000_001),
        };
        assert_eq!(one_more.least_alive_ceil().unwrap().get(), 6);
    }

    #[test]
    fn known_amounts() {
        let due = |price, ms| {
            amount_due_floor(Price::new(price), Millis::new(ms))
                .unwrap()
                .get()
        };
        assert_eq!(due(3_600_000, 1), 1);
        assert_eq!(due(3_599_999, 1), 0);
        assert_eq!(due(1_000_000, 10_000), 2_777);
        assert_eq!(fee_ceil(Tokens::new(1), Bps::new(1)).unwrap().get(), 1);
        assert_eq!(
            fee_ceil(Tokens::new(10_000), Bps::new(100)).unwrap().get(),
            100
        );
    }
}
