use crate::{checks::require, errors::MarketError, quantities::Number};

/// How many nonces the window remembers.
pub const WINDOW: u64 = 1_024;
/// How far above the highest a new nonce may lie.
pub const AHEAD: u64 = 256;

record! {
    /// Used nonces: the highest, and a bit for each of the 1,024 numbers that end with it.
    NonceWindow {
        highest: Number,
        /// The bit of nonce n is bit n mod 8 of byte n mod 1,024 div 8.
        used: [u8; 128],
    }
}

impl NonceWindow {
    /// Marks a nonce as used.
    ///
    /// # Errors
    /// `NonceUsed`, `NonceTooOld`, `NonceTooFarAhead`.
    #[inline(never)]
    pub fn take(&mut self, nonce: Number) -> Result<(), MarketError> {
        let (nonce, highest) = (nonce.get(), self.highest.get());
        if nonce > highest {
            require(nonce - highest <= AHEAD, MarketError::NonceTooFarAhead)?;
            for passed in highest + 1..=nonce {
                let (byte, bit) = place(passed);
                self.used[byte] &= !bit;
            }
            self.highest = Number::new(nonce);
        } else {
            require(highest - nonce < WINDOW, MarketError::NonceTooOld)?;
        }
        let (byte, bit) = place(nonce);
        require(self.used[byte] & bit == 0, MarketError::NonceUsed)?;
        self.used[byte] |= bit;
        Ok(())
    }
}

#[inline(always)]
const fn place(nonce: u64) -> (usize, u8) {
    let index = nonce % WINDOW;
    ((index / 8) as usize, 1 << (index % 8))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    proptest! {
        #[test]
        fn behaves_like_a_set(steps in proptest::collection::vec(0u64..3_000, 1..400)) {
            let mut window = NonceWindow::ZERO;
            let (mut used, mut highest) = (HashSet::new(), 0u64);
            for step in steps {
                // walk upwards, with looks back and leaps ahead
                let nonce = (highest + step % 300).saturating_sub(step % 1_100);
                let want = if nonce > highest + AHEAD {
                    Err(MarketError::NonceTooFarAhead)
                } else if nonce + WINDOW <= highest {
                    Err(MarketError::NonceTooOld)
                } else if used.contains(&nonce) {
                    Err(MarketError::NonceUsed)
                } else {
                    Ok(())
                };
                prop_assert_eq!(window.take(Number::new(nonce)), want);
                if want.is_ok() {
                    used.insert(nonce);
                    highest = highest.max(nonce);
                }
            }
        }
    }

    #[test]
    fn edges() {
        let mut window = NonceWindow::ZERO;
        let mut take = |n| window.take(Number::new(n));
        assert_eq!(take(0), Ok(()));
        assert_eq!(take(0), Err(MarketError::NonceUsed));
        assert_eq!(take(257), Err(MarketError::NonceTooFarAhead));
        assert_eq!(take(256), Ok(()));
        for step in 2..=4 {
            assert_eq!(take(256 * step), Ok(()));
        }
        assert_eq!(take(0), Err(MarketError::NonceTooOld));
        assert_eq!(take(1), Ok(())); // 1,024 outstanding: 1..=1024
        assert_eq!(take(u64::MAX), Err(MarketError::NonceTooFarAhead));
    }
}
