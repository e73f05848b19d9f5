//! The settlement program of the Reaver compute marketplace.
//!
//! `no_std` on the chain; on the host the same sources give the unit and property tests and the
//! generator of the IDL. The wire conventions are Anchor's: discriminators, Borsh, errors from 6000,
//! events through `sol_log_data`.
#![cfg_attr(target_arch = "bpf", no_std)]
#![deny(unsafe_op_in_unsafe_fn)]
#![warn(missing_docs)]

#[macro_use]
pub mod declare;

pub mod admin_key;
pub mod checks;
pub mod cpi;
pub mod errors;
pub mod events;
pub mod hash;
#[cfg(not(target_arch = "bpf"))]
pub mod idl;
pub mod instructions;
pub mod math;
pub mod messages;
pub mod quantities;
pub mod reasons;
pub mod seeds;
pub mod settlement;
pub mod staking;
pub mod state;
pub mod sysvars;

use pinocchio::Address;

/// Everything a handler needs, in one pointer: the BPF back end has only five argument registers.
pub struct Ctx<'a> {
    /// The address under which this program runs: it is not compiled in.
    pub program_id: &'a Address,
    /// All accounts of the instruction, checked against its declaration.
    pub accounts: checks::Checked<'a>,
    /// The arguments, without the discriminator.
    pub data: &'a [u8],
}

/// sbpf-linker puts the first read-only object of a v3 program at address 0, where a reference to it
/// would be null. This pad takes that place; the build script checks that it does.
#[cfg(target_arch = "bpf")]
#[used]
static RODATA_NULL_PAD: [u8; 16] = *b"sbpf-v3-null-pad";

#[cfg(target_arch = "bpf")]
mod entry;
#[cfg(target_arch = "bpf")]
mod memory;
