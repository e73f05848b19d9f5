use crate::{
    errors::MarketError,
    quantities::{Bps, Key, Time, Tokens},
};

account! {
    /// A market: its keys, its fee, what it has earned and what of it is the protocol's.
    Market, reserved 64 {
        /// The cold key that rotates the others.
        authority: Key,
        /// Opens under allowances, and assigns.
        matcher: Key,
        /// Countersigns vouchers, and releases.
        meter: Key,
        /// The market's own fee, beside the protocol's.
        fee_bps: Bps,
        pending_fee_bps: Bps,
        /// When the pending fee takes effect; zero: none is pending.
        pending_fee_at: Time,
        fee_vault: Key,
        fee_vault_bump: u8,
        /// In the fee vault, the market's.
        market_owed: Tokens,
        /// In the fee vault, the protocol's.
        protocol_owed: Tokens,
    }
}

impl Market {
    /// The market's own fee of the moment.
    #[inline(always)]
    #[must_use]
    pub fn fee_at(&self, now: Time) -> Bps {
        if !self.pending_fee_at.is_zero() && now >= self.pending_fee_at {
            self.pending_fee_bps
        } else {
            self.fee_bps
        }
    }

    /// What an attempt is charged in all: the market's fee of the moment and the protocol's.
    ///
    /// # Errors
    /// `MathOverflow`; a total above 100 % is refused as `FeeTooHigh`.
    pub fn total_fee_at(&self, now: Time, protocol: Bps) -> Result<Bps, MarketError> {
        let total = self.fee_at(now).plus(protocol)?;
        crate::checks::require(
            total.get() as u64 <= crate::math::BPS_ONE,
            MarketError::FeeTooHigh,
        )?;
        Ok(total)
    }
}
