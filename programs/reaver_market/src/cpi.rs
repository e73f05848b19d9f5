//! Calls of other programs: their addresses are hard-wired here, balances are read again.
//!
//! The instructions are written out instead of taken from pinocchio's builders: those are inlined where they
//! are used, a few hundred bytes each.

use core::mem::MaybeUninit;

use pinocchio::{
    cpi::{invoke_signed_unchecked, CpiAccount, Seed, Signer},
    instruction::{InstructionAccount, InstructionView},
    AccountView, Address,
};

use crate::{
    checks,
    declare::bytes_of,
    errors::MarketError,
    quantities::{Count, Key, Number, Tokens},
    state::{self, Account},
    sysvars,
};

/// Length of a classic token account.
pub const TOKEN_ACCOUNT_LEN: usize = 165;

/// The most accounts that a call passes.
const MOST: usize = 3;

/// An account of a call: it signs (itself, or by the seeds of its address), and whether it changes.
type Passed<'a> = (&'a AccountView, bool, bool);

/// A call of another program.
struct Call<'a> {
    program: &'a Address,
    accounts: &'a [Passed<'a>],
    data: &'a [u8],
    /// Seeds of our address that signs; empty: none does.
    seeds: &'a [Seed<'a>],
}

impl Call<'_> {
    /// Makes the call. A refusal of the called program ends the transaction.
    #[inline(never)]
    fn make(&self) {
        let mut metas = [const { MaybeUninit::<InstructionAccount<'_>>::uninit() }; MOST];
        let mut infos = [const { MaybeUninit::<CpiAccount<'_>>::uninit() }; MOST];
        let mut count = 0;
        for ((view, signs, changes), (meta, info)) in
            self.accounts.iter().zip(metas.iter_mut().zip(&mut infos))
        {
            meta.write(InstructionAccount::new(view.address(), *changes, *signs));
            CpiAccount::init_from_account_view(view, info);
            count += 1;
        }
        let signer = [Signer::from(self.seeds)];
        let signers: &[Signer<'_, '_>] = if self.seeds.is_empty() { &[] } else { &signer };
        // SAFETY: `count` of each are written. No reference into the data of a passed account is alive: callers
        // read balances again, and load again.
        unsafe {
            invoke_signed_unchecked(
                &InstructionView {
                    program_id: self.program,
                    accounts: core::slice::from_raw_parts(metas.as_ptr().cast(), count),
                    data: self.data,
                },
                core::slice::from_raw_parts(infos.as_ptr().cast(), count),
                signers,
            );
        }
    }
}

record! {
    /// Data of the system program's instructions: each uses the first so many bytes.
    SystemData {
        tag: Count,
        lamports_or_space: Number,
        space: Number,
        owner: Key,
    }
}

record! {
    /// Data of its `Assign`.
    AssignData { tag: Count, owner: Key }
}

record! {
    /// Data of the token program's `Transfer`.
    TransferData { tag: u8, amount: Number }
}

record! {
    /// Data of its `InitializeAccount3`.
    InitializeData { tag: u8, owner: Key }
}

/// Numbers of the called instructions.
mod tag {
    pub const CREATE_ACCOUNT: u32 = 0;
    pub const ASSIGN: u32 = 1;
    pub const TRANSFER_LAMPORTS: u32 = 2;
    pub const ALLOCATE: u32 = 8;
    pub const TRANSFER: u8 = 3;
    pub const CLOSE_ACCOUNT: u8 = 9;
    pub const INITIALIZE_ACCOUNT_3: u8 = 18;
}

/// Where an account is created, and who pays.
struct Creation<'a> {
    payer: &'a AccountView,
    account: &'a AccountView,
    owner: &'a Address,
    len: usize,
    /// Seeds with the canonical bump as the last.
    seeds: &'a [Seed<'a>],
}

impl Creation<'_> {
    fn system(&self, accounts: &[Passed<'_>], data: &[u8], seeds: &[Seed<'_>]) {
        Call {
            program: &pinocchio_system::ID,
            accounts,
            data,
            seeds,
        }
        .make();
    }

    /// Creates an account at a derived address, also where somebody sent lamports there first.
    #[inline(never)]
    fn create(&self) -> Result<(), MarketError> {
        let (account, payer) = (self.account, self.payer);
        checks::require(
            account.owned_by(&pinocchio_system::ID) && account.is_data_empty(),
            MarketError::AlreadyInitialized,
        )?;
        let need = sysvars::rent_minimum(self.len)?;
        let have = account.lamports();
        let space = Number::new(self.len as u64);
        let mut data = SystemData {
            tag: Count::new(tag::CREATE_ACCOUNT),
            lamports_or_space: Number::new(need),
            space,
            owner: Key(*self.owner.as_array()),
        };
        let both = [(payer, true, true), (account, true, true)];
        if have == 0 {
            self.system(&both, bytes_of(&data), self.seeds);
            return Ok(());
        }
        if have < need {
            data.tag = Count::new(tag::TRANSFER_LAMPORTS);
            data.lamports_or_space = Number::new(need - have);
            let both = [(payer, true, true), (account, false, true)];
            self.system(&both, &bytes_of(&data)[..12], &[]);
        }
        data.tag = Count::new(tag::ALLOCATE);
        data.lamports_or_space = space;
        self.system(&both[1..], &bytes_of(&data)[..12], self.seeds);
        let assign = AssignData {
            tag: Count::new(tag::ASSIGN),
            owner: data.owner,
        };
        self.system(&both[1..], bytes_of(&assign), self.seeds);
        Ok(())
    }
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
    #[inline(never)]
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
        Creation {
            payer: self.payer,
            account,
            owner,
            len,
            seeds: &seeds[..=count],
        }
        .create()?;
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
        self.begin(account, T::TYPE)?;
        // SAFETY: just created with this length; alignment 1, every bit pattern valid.
        Ok(unsafe { &mut *account.data_mut_ptr().cast::<T>() })
    }

    #[inline(never)]
    fn begin(&self, account: &mut AccountView, kind: u8) -> Result<(), MarketError> {
        let (discriminator, len) = checks::type_of(kind)?;
        let bump = self.create(account, self.program_id, len)?;
        // SAFETY: just created with this length, so nobody holds a reference into it.
        let data = unsafe { account.borrow_unchecked_mut() };
        state::start(data, (discriminator, len), bump)
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
        let data = InitializeData {
            tag: tag::INITIALIZE_ACCOUNT_3,
            owner: Key(*owner.as_array()),
        };
        Call {
            program: &pinocchio_token::ID,
            accounts: &[(account, false, true), (mint, false, false)],
            data: bytes_of(&data),
            seeds: &[],
        }
        .make();
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
        self.call(&[]);
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
        if self.amount != 0 {
            self.call(seeds);
        }
        Ok(())
    }

    #[inline(never)]
    fn call(&self, seeds: &[Seed<'_>]) {
        let data = TransferData {
            tag: tag::TRANSFER,
            amount: Number::new(self.amount),
        };
        Call {
            program: &pinocchio_token::ID,
            accounts: &[
                (self.from, false, true),
                (self.to, false, true),
                (self.authority, true, false),
            ],
            data: bytes_of(&data),
            seeds,
        }
        .make();
    }
}

/// A token account of ours, to be paid from.
pub struct Purse<'a> {
    /// The token account.
    pub account: &'a AccountView,
    /// Our account that may spend from it.
    pub authority: &'a AccountView,
    /// The authority's seeds: its prefix, its key (empty where it has none), its bump.
    pub seeds: (&'a [u8], &'a [u8], u8),
}

impl Purse<'_> {
    /// Sends tokens, and checks that exactly they have left and that what stays covers what is recorded.
    /// For nothing neither account is looked at.
    ///
    /// # Errors
    /// `DuplicateAccount`, `ConservationBroken`, or what the token program answers.
    #[inline(never)]
    pub fn pay(&self, to: &AccountView, amount: u64, recorded: u64) -> Result<(), MarketError> {
        if amount == 0 {
            return Ok(());
        }
        checks::require(
            !checks::same(to.address().as_array(), self.account.address().as_array()),
            MarketError::DuplicateAccount,
        )?;
        let before = checks::balance(self.account)?.get();
        let (prefix, key, bump) = self.seeds;
        TokenTransfer {
            from: self.account,
            to,
            authority: self.authority,
            amount,
        }
        .send(&[Seed::from(prefix), Seed::from(key), Seed::from(&[bump])])?;
        let after = checks::balance(self.account)?.get();
        checks::require(
            after.checked_add(amount) == Some(before) && after >= recorded,
            MarketError::ConservationBroken,
        )
    }

    /// Closes the emptied token account; its rent goes to `to`.
    ///
    /// # Errors
    /// None of ours; the token program's own when it isn't empty.
    #[inline(never)]
    pub fn close(&self, to: &AccountView) -> Result<(), MarketError> {
        let (prefix, key, bump) = self.seeds;
        Call {
            program: &pinocchio_token::ID,
            accounts: &[
                (self.account, false, true),
                (to, false, true),
                (self.authority, true, false),
            ],
            data: &[tag::CLOSE_ACCOUNT],
            seeds: &[Seed::from(prefix), Seed::from(key), Seed::from(&[bump])],
        }
        .make();
        Ok(())
    }
}

/// Closes one of our accounts: data zeroed, lamports to the recorded payer, back to the system program.
///
/// # Errors
/// `MathOverflow`, `DuplicateAccount` when the account is to pay itself.
#[inline(never)]
pub fn close(account: &mut AccountView, to: &mut AccountView) -> Result<(), MarketError> {
    checks::require(
        !checks::same(account.address().as_array(), to.address().as_array()),
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
