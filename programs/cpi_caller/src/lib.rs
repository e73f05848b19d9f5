//! For tests only, never deployed: calls the program that is its first account, with the other accounts as
//! they are and with its own data. So the tests can show what the settlement program answers when it isn't
//! the transaction that calls it.
#![cfg_attr(target_arch = "bpf", no_std)]
#![deny(unsafe_op_in_unsafe_fn)]

use pinocchio::{
    cpi::invoke_with_bounds,
    error::ProgramError,
    instruction::{InstructionAccount, InstructionView},
    AccountView, Address, ProgramResult,
};

/// The most accounts that are passed on.
const MOST: usize = 20;

/// The single entry.
///
/// # Errors
/// `NotEnoughAccountKeys` without a program to call, `InvalidArgument` for more accounts than are passed on.
pub fn process_instruction(
    _program_id: &Address,
    accounts: &mut [AccountView],
    data: &[u8],
) -> ProgramResult {
    let Some((program, rest)) = accounts.split_first() else {
        return Err(ProgramError::NotEnoughAccountKeys);
    };
    let mut metas: [_; MOST] =
        core::array::from_fn(|_| InstructionAccount::readonly(program.address()));
    let Some(metas) = metas.get_mut(..rest.len()) else {
        return Err(ProgramError::InvalidArgument);
    };
    for (meta, view) in metas.iter_mut().zip(rest) {
        *meta = InstructionAccount::new(view.address(), view.is_writable(), view.is_signer());
    }
    let instruction = InstructionView {
        program_id: program.address(),
        data,
        accounts: metas,
    };
    invoke_with_bounds::<MOST, AccountView>(&instruction, rest)
}

#[cfg(target_arch = "bpf")]
mod entry {
    pinocchio::program_entrypoint!(super::process_instruction, 24);
    pinocchio::nostd_panic_handler!();
}
