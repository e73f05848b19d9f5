//! What is asked of an account before anything of it is believed.

use core::{
    marker::PhantomData,
    ops::{Deref, DerefMut},
};

use pinocchio::{AccountView, Address};
use pinocchio_token::state::Mint;

use crate::{
    cpi::TOKEN_ACCOUNT_LEN,
    errors::MarketError,
    quantities::{Key, Tokens},
    state::{
        self, Account, Allowance, Class, Config, Epoch, Escrow, Market, Node, Pool, Position,
        Ticket, Vault,
    },
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
    /// How many bits the flags take; the account's type stands above them.
    pub const BITS: u8 = 3;
}

/// Numbers of the account types, from 1, for the checks only: the wire has the discriminators.
#[allow(non_upper_case_globals, missing_docs)]
pub mod account_type {
    pub const Config: u8 = 1;
    pub const Market: u8 = 2;
    pub const Class: u8 = 3;
    pub const Node: u8 = 4;
    pub const Pool: u8 = 5;
    pub const Position: u8 = 6;
    pub const Ticket: u8 = 7;
    pub const Vault: u8 = 8;
    pub const Allowance: u8 = 9;
    pub const Escrow: u8 = 10;
    pub const Epoch: u8 = 11;
    /// Not an account of ours: the classic token program itself.
    pub const TokenProgram: u8 = 12;
    /// The system program itself.
    pub const SystemProgram: u8 = 13;
}

/// Discriminator and length of each account type, by number.
static TYPES: [(u64, usize); 12] = [
    (0, 0),
    Config::HEAD,
    Market::HEAD,
    Class::HEAD,
    Node::HEAD,
    Pool::HEAD,
    Position::HEAD,
    Ticket::HEAD,
    Vault::HEAD,
    Allowance::HEAD,
    Escrow::HEAD,
    Epoch::HEAD,
];

/// Discriminator and length of an account type by its number.
///
/// # Errors
/// `WrongAccountType`: can't be.
#[inline(always)]
pub fn type_of(kind: u8) -> Result<(u64, usize), MarketError> {
    match TYPES.get(kind as usize) {
        Some(head) => Ok(*head),
        None => Err(MarketError::WrongAccountType),
    }
}

/// The most accounts an instruction may declare.
pub const MOST_ACCOUNTS: usize = 16;
/// What an instruction declares of its accounts, a byte each and `NONE` after the last, and the length of its
/// arguments.
pub struct Declared {
    accounts: [u8; MOST_ACCOUNTS + 1],
    arguments: u16,
}
const NONE: u8 = 0xFF;

/// Lays out a declaration.
#[must_use]
pub const fn declared(accounts: &[u8], arguments: usize) -> Declared {
    assert!(accounts.len() <= MOST_ACCOUNTS && arguments <= u16::MAX as usize);
    let mut out = [NONE; MOST_ACCOUNTS + 1];
    let mut at = 0;
    while at < accounts.len() {
        out[at] = accounts[at];
        at += 1;
    }
    Declared {
        accounts: out,
        arguments: arguments as u16,
    }
}

impl Declared {
    /// What is declared of one account.
    #[must_use]
    pub const fn account(&self, at: usize) -> u8 {
        self.accounts[at]
    }
}

/// The accounts of an instruction, checked against its declaration.
pub struct Checked<'a>(&'a mut [AccountView]);

impl<'a> Checked<'a> {
    /// The accounts that several instructions begin with, as their common layout, and the others.
    ///
    /// # Safety
    /// `F` is `repr(C)` of views and typed views only, and the instruction declares the same of its first
    /// accounts.
    ///
    /// # Errors
    /// `WrongAccountCount`.
    #[inline(always)]
    pub unsafe fn split<F>(self) -> Result<(&'a mut F, &'a mut [AccountView]), MarketError> {
        let count = const { core::mem::size_of::<F>() / core::mem::size_of::<AccountView>() };
        let Some((front, rest)) = self.0.split_at_mut_checked(count) else {
            return Err(MarketError::WrongAccountCount);
        };
        // SAFETY: the length is right, the rest is the caller's promise.
        Ok((unsafe { &mut *front.as_mut_ptr().cast::<F>() }, rest))
    }

    /// All of them.
    #[inline(always)]
    pub fn all(self) -> &'a mut [AccountView] {
        self.0
    }
}

/// Checks how many accounts there are, each one's declared flags, the length of the arguments, the programs to
/// be called, and the types of the accounts that declare one: in this order, each of all accounts.
///
/// # Errors
/// `WrongAccountCount`, `SignerMissing`, `AccountNotWritable`, `WrongArguments`, `WrongProgram`, and all of
/// `load`.
#[inline(always)]
pub fn check<'a>(
    program_id: &Address,
    accounts: &'a mut [AccountView],
    declared: &Declared,
    arguments: usize,
) -> Result<Checked<'a>, MarketError> {
    check_all(program_id, accounts, declared, arguments)?;
    Ok(Checked(accounts))
}

#[inline(never)]
fn check_all(
    program_id: &Address,
    accounts: &[AccountView],
    declared: &Declared,
    arguments: usize,
) -> Result<(), MarketError> {
    let count = declared.accounts.iter().take_while(|flags| **flags != NONE);
    require(
        accounts.len() == count.count(),
        MarketError::WrongAccountCount,
    )?;
    for (view, flags) in accounts.iter().zip(&declared.accounts) {
        if flags & flag::signer != 0 {
            require(view.is_signer(), MarketError::SignerMissing)?;
        }
        if flags & flag::writable != 0 && !view.is_writable() {
            require(
                is_absent(view, *flags, program_id),
                MarketError::AccountNotWritable,
            )?;
        }
    }
    require(
        arguments == declared.arguments as usize,
        MarketError::WrongArguments,
    )?;
    for (view, flags) in accounts.iter().zip(&declared.accounts) {
        match flags >> flag::BITS {
            account_type::TokenProgram => token_program(view)?,
            account_type::SystemProgram => system_program(view)?,
            _ => {}
        }
    }
    for (view, flags) in accounts.iter().zip(&declared.accounts) {
        let kind = flags >> flag::BITS;
        if (account_type::Config..=account_type::Epoch).contains(&kind)
            && !is_absent(view, *flags, program_id)
        {
            check_account(view, program_id, kind)?;
        }
    }
    Ok(())
}

/// Whether an optional account is absent.
fn is_absent(view: &AccountView, flags: u8, program_id: &Address) -> bool {
    flags & flag::optional != 0 && same(view.address().as_array(), program_id.as_array())
}

/// A view whose account was checked to be a `T` before the instruction began, unless it is optional and
/// absent. `FLAGS` are the declared ones.
#[repr(transparent)]
pub struct Typed<T, const FLAGS: u8>(AccountView, PhantomData<T>);

impl<T, const FLAGS: u8> Deref for Typed<T, FLAGS> {
    type Target = AccountView;
    #[inline(always)]
    fn deref(&self) -> &AccountView {
        &self.0
    }
}

impl<T, const FLAGS: u8> DerefMut for Typed<T, FLAGS> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut AccountView {
        &mut self.0
    }
}

/// A typed account that changes.
pub type Writable<T> = Typed<T, { flag::writable }>;
/// A typed account that changes and may be absent.
pub type WritableOptional<T> = Typed<T, { flag::writable | flag::optional }>;

impl<T: Account, const FLAGS: u8> Typed<T, FLAGS> {
    /// The account's contents.
    #[inline(always)]
    #[must_use]
    pub fn get(&self) -> &T {
        const { assert!(FLAGS & flag::optional == 0) };
        // SAFETY: `check` has seen that the account is a `T` of exact length; alignment 1, every bit pattern
        // valid. No handler loads one type twice, so no other view gives a reference to the same bytes.
        unsafe { &*self.0.data_ptr().cast::<T>() }
    }

    /// The account's contents, to be changed.
    #[inline(always)]
    pub fn get_mut(&mut self) -> &mut T {
        const { assert!(FLAGS & (flag::optional | flag::writable) == flag::writable) };
        // SAFETY: as in `get`.
        unsafe { &mut *self.0.data_mut_ptr().cast::<T>() }
    }

    /// The contents of an account that may be absent, to be changed.
    #[inline(always)]
    pub fn get_optional_mut(&mut self, program_id: &Address) -> Option<&mut T> {
        const { assert!(FLAGS & flag::writable != 0) };
        if same(self.0.address().as_array(), program_id.as_array()) {
            return None;
        }
        // SAFETY: as in `get`; it is there.
        Some(unsafe { &mut *self.0.data_mut_ptr().cast::<T>() })
    }
}

/// Something that may hold a `T`.
///
/// # Safety
/// After `known` (`known_mut`) has said yes, the view's data are a valid `T` of exact length (that may
/// change).
pub unsafe trait Holds<T: Account> {
    /// The view.
    fn view(&self) -> &AccountView;
    /// Checks whatever of owner, discriminator, exact length and version is not known yet.
    ///
    /// # Errors
    /// As `load`.
    fn known(&self, program_id: &Address) -> Result<(), MarketError>;
    /// As `known`, and that the account may change.
    ///
    /// # Errors
    /// As `load_mut`.
    fn known_mut(&self, program_id: &Address) -> Result<(), MarketError>;
    /// As `known`, of an account that is there.
    ///
    /// # Errors
    /// As `load`.
    fn present(&self, program_id: &Address) -> Result<(), MarketError>;
    /// As `known_mut`, of an account that is there.
    ///
    /// # Errors
    /// As `load_mut`.
    fn present_mut(&self, program_id: &Address) -> Result<(), MarketError>;
}

// SAFETY: everything is checked.
unsafe impl<T: Account> Holds<T> for AccountView {
    #[inline(always)]
    fn view(&self) -> &AccountView {
        self
    }
    #[inline(always)]
    fn known(&self, program_id: &Address) -> Result<(), MarketError> {
        check_account(self, program_id, T::TYPE)
    }
    #[inline(always)]
    fn known_mut(&self, program_id: &Address) -> Result<(), MarketError> {
        check_writable(self, program_id, T::TYPE)
    }
    #[inline(always)]
    fn present(&self, program_id: &Address) -> Result<(), MarketError> {
        check_account(self, program_id, T::TYPE)
    }
    #[inline(always)]
    fn present_mut(&self, program_id: &Address) -> Result<(), MarketError> {
        check_writable(self, program_id, T::TYPE)
    }
}

// SAFETY: checked by `check`, but for an optional one that is absent: that isn't loaded as if it were there.
unsafe impl<T: Account, const FLAGS: u8> Holds<T> for Typed<T, FLAGS> {
    #[inline(always)]
    fn view(&self) -> &AccountView {
        &self.0
    }
    #[inline(always)]
    fn known(&self, _: &Address) -> Result<(), MarketError> {
        const { assert!(FLAGS & flag::optional == 0) };
        Ok(())
    }
    #[inline(always)]
    fn known_mut(&self, _: &Address) -> Result<(), MarketError> {
        const { assert!(FLAGS & (flag::optional | flag::writable) == flag::writable) };
        Ok(())
    }
    #[inline(always)]
    fn present(&self, _: &Address) -> Result<(), MarketError> {
        Ok(())
    }
    #[inline(always)]
    fn present_mut(&self, _: &Address) -> Result<(), MarketError> {
        const { assert!(FLAGS & flag::writable != 0) };
        Ok(())
    }
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
fn check_account(view: &AccountView, program_id: &Address, kind: u8) -> Result<(), MarketError> {
    require(
        same(view.owner().as_array(), program_id.as_array()),
        MarketError::WrongAccountOwner,
    )?;
    let (discriminator, len) = type_of(kind)?;
    // SAFETY: read here and forgotten; no reference into the data is alive yet.
    let data = unsafe { view.borrow_unchecked() };
    state::check(data, discriminator, len)
}

#[inline(never)]
fn check_writable(view: &AccountView, program_id: &Address, kind: u8) -> Result<(), MarketError> {
    check_account(view, program_id, kind)?;
    require(view.is_writable(), MarketError::AccountNotWritable)
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
    view: &'a impl Holds<T>,
    program_id: &Address,
) -> Result<&'a T, MarketError> {
    view.known(program_id)?;
    // SAFETY: the length is exact, alignment 1, every bit pattern valid. The view can't be loaded
    // mutably meanwhile through itself; another view of the same account would have to be of the same
    // type, and no handler loads one type twice.
    Ok(unsafe { &*view.view().data_ptr().cast::<T>() })
}

/// As `load`, to be changed.
///
/// # Errors
/// As `load`, and `AccountNotWritable`.
#[inline(always)]
pub fn load_mut<'a, T: Account>(
    view: &'a mut impl Holds<T>,
    program_id: &Address,
) -> Result<&'a mut T, MarketError> {
    view.known_mut(program_id)?;
    // SAFETY: as in `load`.
    Ok(unsafe { &mut *view.view().data_ptr().cast_mut().cast::<T>() })
}

/// Reads one of our accounts that may be absent.
///
/// # Errors
/// As `load`.
#[inline(always)]
pub fn load_if_present<'a, T: Account>(
    view: &'a impl Holds<T>,
    program_id: &Address,
) -> Result<Option<&'a T>, MarketError> {
    if same(view.view().address().as_array(), program_id.as_array()) {
        return Ok(None);
    }
    view.present(program_id)?;
    // SAFETY: as in `load`.
    Ok(Some(unsafe { &*view.view().data_ptr().cast::<T>() }))
}

/// As `load_mut`, of an account that may be absent.
///
/// # Errors
/// As `load_mut`.
#[inline(always)]
pub fn load_optional<'a, T: Account>(
    view: &'a mut impl Holds<T>,
    program_id: &Address,
) -> Result<Option<&'a mut T>, MarketError> {
    if same(view.view().address().as_array(), program_id.as_array()) {
        return Ok(None);
    }
    view.present_mut(program_id)?;
    // SAFETY: as in `load`.
    Ok(Some(unsafe {
        &mut *view.view().data_ptr().cast_mut().cast::<T>()
    }))
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
fn token_program(view: &AccountView) -> Result<(), MarketError> {
    require(
        same(view.address().as_array(), pinocchio_token::ID.as_array()),
        MarketError::WrongProgram,
    )
}

/// Checks that the account is the system program.
///
/// # Errors
/// `WrongProgram`.
fn system_program(view: &AccountView) -> Result<(), MarketError> {
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
