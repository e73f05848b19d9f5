//! What is asked of an account before anything of it is believed.

use pinocchio::{AccountView, Address};
use pinocchio_token::state::Mint;

use crate::{
    cpi::TOKEN_ACCOUNT_LEN,
    errors::MarketError,
    quantities::{Key, Tokens},
    state::{self, Account},
};

/// Flags of an account in an instruction's declaration.
#[allow(non_upper_case_globals)]
pub mod flag {
    /// It signs.
    pub const signer: u8 = 1;
    /// It changes.
    pub const writable: u8 = 2;
    /// It may be absent: the program's own address stands in its place.
    pub const optional: u8 = 4;
}

/// Returns the error unless the condition holds.
#[inline(always)]
pub const fn require(holds: bool, error: MarketError) -> Result<(), MarketError> {
    if holds {
        Ok(())
    } else {
        Err(error)
    }
}

/// Checks how many accounts there are, and each one's declared flags.
///
/// # Errors
/// `WrongAccountCount`, `SignerMissing`, `AccountNotWritable`.
#[inline(never)]
pub fn flags(
    program_id: &Address,
    accounts: &[AccountView],
    flags: &[u8],
) -> Result<(), MarketError> {
    require(
        accounts.len() == flags.len(),
        MarketError::WrongAccountCount,
    )?;
    for (view, flags) in accounts.iter().zip(flags) {
        if flags & flag::signer != 0 {
            require(view.is_signer(), MarketError::SignerMissing)?;
        }
        if flags & flag::writable != 0 && !view.is_writable() {
            let absent = flags & flag::optional != 0 && Key::of(view) == *program_id;
            require(absent, MarketError::AccountNotWritable)?;
        }
    }
    Ok(())
}

/// An optional account: none where the program's own address stands in its place.
#[inline(always)]
pub fn optional<'a>(
    view: &'a mut AccountView,
    program_id: &Address,
) -> Option<&'a mut AccountView> {
    if same(view.address().as_array(), program_id.as_array()) {
        None
    } else {
        Some(view)
    }
}

#[inline(never)]
fn check_account(
    view: &AccountView,
    program_id: &Address,
    (discriminator, len): (u64, usize),
) -> Result<(), MarketError> {
    require(
        same(view.owner().as_array(), program_id.as_array()),
        MarketError::WrongAccountOwner,
    )?;
    // SAFETY: read here and forgotten; no reference into the data is alive yet.
    let data = unsafe { view.borrow_unchecked() };
    state::check(data, discriminator, len)
}

/// Whether two addresses are the same. Not inlined: there are many comparisons, and few of them matter
/// for the time.
#[inline(never)]
#[must_use]
pub fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    a == b
}

/// Reads one of our accounts: owner, discriminator, exact length, version.
///
/// # Errors
/// `WrongAccountOwner`, `WrongAccountType`, `WrongAccountSize`, `WrongAccountVersion`.
#[inline(always)]
pub fn load<'a, T: Account>(
    view: &'a AccountView,
    program_id: &Address,
) -> Result<&'a T, MarketError> {
    check_account(view, program_id, T::HEAD)?;
    // SAFETY: the length is exact, alignment 1, every bit pattern valid. The view can't be loaded
    // mutably meanwhile through itself; another view of the same account would have to be of the same
    // type, and no handler loads one type twice.
    Ok(unsafe { &*view.data_ptr().cast::<T>() })
}

/// As `load`, to be changed. That the account is writable follows from the instruction's declaration.
///
/// # Errors
/// As `load`, and `AccountNotWritable`.
#[inline(always)]
pub fn load_mut<'a, T: Account>(
    view: &'a mut AccountView,
    program_id: &Address,
) -> Result<&'a mut T, MarketError> {
    check_account(view, program_id, T::HEAD)?;
    require(view.is_writable(), MarketError::AccountNotWritable)?;
    // SAFETY: as in `load`.
    Ok(unsafe { &mut *view.data_mut_ptr().cast::<T>() })
}

/// As `load_mut`, of an account that may be absent.
///
/// # Errors
/// As `load_mut`.
#[inline(always)]
pub fn load_optional<'a, T: Account>(
    view: &'a mut AccountView,
    program_id: &Address,
) -> Result<Option<&'a mut T>, MarketError> {
    match optional(view, program_id) {
        Some(view) => load_mut(view, program_id).map(Some),
        None => Ok(None),
    }
}

/// The fields of a token account that the program looks at, where the token program keeps them.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct TokenView {
    /// Its mint.
    pub mint: Key,
    /// Who may spend from it.
    pub owner: Key,
    amount: Tokens,
    delegate_set: [u8; 4],
    delegate: Key,
    state: u8,
    native: [u8; 12],
    delegated: [u8; 8],
    close_authority_set: [u8; 4],
    close_authority: Key,
}
const _: () = assert!(core::mem::size_of::<TokenView>() == TOKEN_ACCOUNT_LEN);

impl TokenView {
    /// What it holds.
    #[inline(always)]
    #[must_use]
    pub const fn amount(&self) -> Tokens {
        self.amount
    }

    /// Whether a delegate or a close authority is set.
    #[inline(always)]
    #[must_use]
    pub fn is_encumbered(&self) -> bool {
        self.delegate_set != [0; 4] || self.close_authority_set != [0; 4]
    }
}

/// Reads a token account of the classic token program that can receive and send.
///
/// # Errors
/// `TokenProgramUnsupported` for another program's account, `TokenAccountInvalid` for one that is
/// frozen, not initialized or no token account at all.
#[inline(always)]
pub fn token(view: &AccountView) -> Result<&TokenView, MarketError> {
    check_token(view)?;
    // SAFETY: the length is exact, alignment 1, every bit pattern valid. We never write to it; the token
    // program does, but no reference is kept over a call.
    Ok(unsafe { &*view.data_ptr().cast::<TokenView>() })
}

#[inline(never)]
fn check_token(view: &AccountView) -> Result<(), MarketError> {
    if !same(view.owner().as_array(), pinocchio_token::ID.as_array()) {
        return Err(if view.is_data_empty() {
            MarketError::TokenAccountInvalid
        } else {
            MarketError::TokenProgramUnsupported
        });
    }
    require(
        view.data_len() == TOKEN_ACCOUNT_LEN,
        MarketError::TokenAccountInvalid,
    )?;
    // SAFETY: as in `token`.
    let account = unsafe { &*view.data_ptr().cast::<TokenView>() };
    // 0: not initialized, 1: initialized, 2: frozen
    require(account.state == 1, MarketError::TokenAccountInvalid)
}

/// The balance of a token account that is already known to be one.
///
/// # Errors
/// As `token`.
#[inline(never)]
pub fn balance(view: &AccountView) -> Result<Tokens, MarketError> {
    Ok(token(view)?.amount())
}

/// Checks that an account is an initialized mint of the classic token program.
///
/// # Errors
/// `TokenProgramUnsupported`, `WrongMint`.
#[inline(never)]
pub fn mint(view: &AccountView) -> Result<(), MarketError> {
    require(
        view.owned_by(&pinocchio_token::ID),
        MarketError::TokenProgramUnsupported,
    )?;
    require(view.data_len() == Mint::LEN, MarketError::WrongMint)?;
    // SAFETY: owner and length are checked.
    let mint = unsafe { Mint::from_bytes_unchecked(view.borrow_unchecked()) };
    require(mint.is_initialized(), MarketError::WrongMint)
}

/// Checks that the account is the classic token program.
///
/// # Errors
/// `WrongProgram`.
#[inline(never)]
pub fn token_program(view: &AccountView) -> Result<(), MarketError> {
    require(
        same(view.address().as_array(), pinocchio_token::ID.as_array()),
        MarketError::WrongProgram,
    )
}

/// Checks that the account is the system program.
///
/// # Errors
/// `WrongProgram`.
#[inline(never)]
pub fn system_program(view: &AccountView) -> Result<(), MarketError> {
    require(
        same(view.address().as_array(), pinocchio_system::ID.as_array()),
        MarketError::WrongProgram,
    )
}

/// Finds an address and its canonical bump, and checks that the account is it.
///
/// # Errors
/// `WrongAddress`.
#[inline(never)]
pub fn derived(
    view: &AccountView,
    seeds: &[&[u8]],
    program_id: &Address,
) -> Result<u8, MarketError> {
    let (address, bump) = find(seeds, program_id)?;
    if same(view.address().as_array(), address.as_array()) {
        Ok(bump)
    } else {
        Err(MarketError::WrongAddress)
    }
}

#[cfg(target_arch = "bpf")]
fn find(seeds: &[&[u8]], program_id: &Address) -> Result<(Address, u8), MarketError> {
    Address::try_find_program_address(seeds, program_id).ok_or(MarketError::WrongAddress)
}

// The host derives no addresses: handlers run in a virtual machine only.
#[cfg(not(target_arch = "bpf"))]
fn find(_seeds: &[&[u8]], _program_id: &Address) -> Result<(Address, u8), MarketError> {
    Err(MarketError::RuntimeRefused)
}
