use super::NonceWindow;
use crate::{
    checks::require,
    errors::MarketError,
    quantities::{Key, Stake, Tokens},
};

account! {
    /// A wallet's money.
    Vault, reserved 64 {
        wallet: Key,
        /// Its token account, in the payment mint.
        token_account: Key,
        token_account_bump: u8,
        /// What escrows hold of it.
        locked: Tokens,
        /// Compensations to be claimed, in stake tokens.
        compensation_owed: Stake,
        /// Nonces of escrows that the wallet opens itself.
        nonces: NonceWindow,
    }
}

impl Vault {
    /// What isn't locked, of a token balance. A plain transfer to the token account is a deposit.
    ///
    /// # Errors
    /// `InsufficientFunds` when more is locked than is there.
    pub fn free(&self, balance: Tokens) -> Result<Tokens, MarketError> {
        require(balance >= self.locked, MarketError::InsufficientFunds)?;
        balance.minus(self.locked)
    }

    /// Locks a part of the free balance.
    ///
    /// # Errors
    /// `InsufficientFunds`.
    pub fn lock(&mut self, balance: Tokens, amount: Tokens) -> Result<(), MarketError> {
        require(
            self.free(balance)? >= amount,
            MarketError::InsufficientFunds,
        )?;
        self.locked.grow(amount)?;
        Ok(())
    }
}
