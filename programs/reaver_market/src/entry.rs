//! The program's single entry on the chain.

use core::mem::MaybeUninit;

use pinocchio::{
    entrypoint::lazy::{InstructionContext, MaybeAccount},
    AccountView,
};

use crate::{checks::MOST_ACCOUNTS, errors::MarketError, instructions};

pinocchio::nostd_panic_handler!();

/// Reads accounts, data and address of the program out of the runtime's input, one account after the other:
/// pinocchio's own entrypoint unrolls the same loop into 3 KB.
///
/// # Safety
/// `input` is what the loader passes to a program.
#[no_mangle]
pub unsafe extern "C" fn entrypoint(input: *mut u8) -> u64 {
    // SAFETY: the caller's promise.
    let context = unsafe { InstructionContext::new_unchecked(input) };
    match run(context) {
        Ok(()) => 0,
        Err(error) => u64::from(error.code()),
    }
}

fn run(mut context: InstructionContext) -> Result<(), MarketError> {
    let mut views = [const { MaybeUninit::<AccountView>::uninit() }; MOST_ACCOUNTS];
    let count = context.remaining() as usize;
    if count > MOST_ACCOUNTS {
        return Err(MarketError::WrongAccountCount);
    }
    for at in 0..count {
        // SAFETY: the loop runs as often as there are accounts.
        let view = match unsafe { context.next_account_unchecked() } {
            MaybeAccount::Account(view) => view,
            // SAFETY: the runtime names an account that it has passed before, so it is written here.
            MaybeAccount::Duplicated(first) => unsafe {
                views[first as usize].assume_init_ref().clone()
            },
        };
        views[at].write(view);
    }
    // SAFETY: `count` views are written, `count` is at most the array's length.
    let accounts =
        unsafe { core::slice::from_raw_parts_mut(views.as_mut_ptr().cast::<AccountView>(), count) };
    // SAFETY: every account was read.
    let (program_id, data) = unsafe {
        (
            context.program_id_unchecked(),
            context.instruction_data_unchecked(),
        )
    };
    instructions::dispatch(program_id, accounts, data)
}
