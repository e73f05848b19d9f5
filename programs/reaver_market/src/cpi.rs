//! Calls of other programs: their addresses are hard-wired in the builders, balances are read again.

use pinocchio::{
    cpi::{Seed, Signer},
    AccountView, Address,
};
use pinocchio_system::instructions::{Allocate, Assign, CreateAccount, Transfer as SolTransfer};
use pinocchio_token::instructions::{CloseAccount, InitializeAccount3, Transfer};

use crate::{
    checks,
    errors::MarketError,
    quantities::Tokens,
    state::{self, Account},
    sysvars,
};

/// Length of a classic token account.
pub const TOKEN_ACCOUNT_LEN: usize = 165;

/// Where an account is created, and who pays.
pub struct Creation<'a> {
    /// Pays the rent; a system account that signs.
    pub payer: &'a AccountView,
    /// The address, still without data.
    pub account: &'a AccountView,
    /// The program that will own it.
    pub owner: &'a Address,
    /// Its size.
    pub len: usize,
    /// Seeds with the canonical bump as the last.
    pub seeds: &'a [Seed<'a>],
}

/// Creates an account at a derived address, also where somebody sent lamports there first.
///
/// # Errors
/// `AlreadyInitialized`, or what the system program answers.
#[inline(never)]
pub fn create(creation: &Creation<'_>) -> Result<(), MarketError> {
    let account = creation.account;
    if !account.owned_by(&pinocchio_system::ID) || !account.is_data_empty() {
        return Err(MarketError::AlreadyInitialized);
    }
    let signer = [Signer::from(creation.seeds)];
    let need = sysvars::rent_minimum(creation.len)?;
    let have = account.lamports();
    if have == 0 {
        CreateAccount {
            from: creation.payer,
            to: account,
            lamports: need,
            space: creation.len as u64,
            owner: creation.owner,
        }
        .invoke_signed(&signer)?;
        return Ok(());
    }
    if have < need {
        SolTransfer {
            from: creation.payer,
            to: account,
            lamports: need - have,
        }
        .invoke()?;
    }
    Allocate {
        account,
        space: creation.len as u64,
    }
    .invoke_signed(&signer)?;
    Assign {
        account,
        owner: creation.owner,
    }
    .invoke_signed(&signer)?;
    Ok(())
}

/// One of our accounts to be created: the seeds without the bump.
pub struct Fresh<'a> {
    /// Pays the rent.
    pub payer: &'a AccountView,
    /// The program that runs.
    pub program_id: &'a Address,
    /// All seeds but the bump; at most four.
    pub seeds: &'a [&'a [u8]],
}

impl Fresh<'_> {
    fn create(
        &self,
        account: &AccountView,
        owner: &Address,
        len: usize,
    ) -> Result<u8, MarketError> {
        let bump = checks::derived(account, self.seeds, self.program_id)?;
        let bump_seed = [bump];
        let mut seeds: [Seed<'_>; 5] = core::array::from_fn(|_| Seed::from(&bump_seed));
        let count = self.seeds.len();
        for (slot, seed) in seeds.iter_mut().zip(self.seeds) {
            *slot = Seed::from(*seed);
        }
        create(&Creation {
            payer: self.payer,
            account,
            owner,
            len,
            seeds: &seeds[..=count],
        })?;
        Ok(bump)
    }

    /// Derives, checks and creates one of our accounts, and writes its header.
    ///
    /// # Errors
    /// `WrongAddress`, `AlreadyInitialized`.
    #[inline(always)]
    pub fn account<'v, T: Account>(
        &self,
        account: &'v mut AccountView,
    ) -> Result<&'v mut T, MarketError> {
        let bump = self.create(account, self.program_id, T::LEN)?;
        // SAFETY: just created with this length, so nobody holds a reference into it.
        let data = unsafe { account.borrow_unchecked_mut() };
        state::begin::<T>(data, bump)
    }

    /// Derives, checks and creates a token account of our own.
    ///
    /// # Errors
    /// `WrongAddress`, `AlreadyInitialized`, or what the token program answers.
    #[inline(never)]
    pub fn token_account(
        &self,
        account: &AccountView,
        mint: &AccountView,
        owner: &Address,
    ) -> Result<u8, MarketError> {
        let bump = self.create(account, &pinocchio_token::ID, TOKEN_ACCOUNT_LEN)?;
        InitializeAccount3 {
            account,
            mint,
            owner,
        }
        .invoke()?;
        Ok(bump)
    }
}

/// A token transfer.
pub struct TokenTransfer<'a> {
    /// From where.
    pub from: &'a AccountView,
    /// To where.
    pub to: &'a AccountView,
    /// Who may spend from it.
    pub authority: &'a AccountView,
    /// How much.
    pub amount: u64,
}

impl TokenTransfer<'_> {
    /// Moves tokens that a signer of the transaction owns, and says what arrived.
    ///
    /// # Errors
    /// `TransferShort` when less arrived, or what the token program answers.
    #[inline(never)]
    pub fn receive(&self) -> Result<Tokens, MarketError> {
        let before = checks::balance(self.to)?;
        Transfer::new(self.from, self.to, self.authority, self.amount).invoke()?;
        let credit = checks::balance(self.to)?.minus(before)?;
        checks::require(credit.get() == self.amount, MarketError::TransferShort)?;
        Ok(credit)
    }

    /// Moves tokens that one of our accounts owns; nothing is sent for nothing.
    ///
    /// # Errors
    /// What the token program answers.
    #[inline(never)]
    pub fn send(&self, seeds: &[Seed<'_>]) -> Result<(), MarketError> {
        if self.amount == 0 {
            return Ok(());
        }
        Transfer::new(self.from, self.to, self.authority, self.amount)
            .invoke_signed(&[Signer::from(seeds)])?;
        Ok(())
    }
}

/// Closes an empty token account of ours; its rent goes to `to`.
///
/// # Errors
/// What the token program answers, for instance when it isn't empty.
#[inline(always)]
pub fn close_token_account(
    account: &AccountView,
    to: &AccountView,
    authority: &AccountView,
    seeds: &[Seed<'_>],
) -> Result<(), MarketError> {
    CloseAccount::new(account, to, authority).invoke_signed(&[Signer::from(seeds)])?;
    Ok(())
}

/// Closes one of our accounts: data zeroed, lamports to the recorded payer, back to the system program.
///
/// # Errors
/// `MathOverflow`, `DuplicateAccount` when the account is to pay itself.
#[inline(never)]
pub fn close(account: &mut AccountView, to: &mut AccountView) -> Result<(), MarketError> {
    checks::require(
        account.address() != to.address(),
        MarketError::DuplicateAccount,
    )?;
    let lamports = to
        .lamports()
        .checked_add(account.lamports())
        .ok_or(MarketError::MathOverflow)?;
    to.set_lamports(lamports);
    account.set_lamports(0);
    // SAFETY: no reference into the account's data is alive: handlers close last.
    unsafe { account.borrow_unchecked_mut() }.fill(0);
    account.close()?;
    Ok(())
}
