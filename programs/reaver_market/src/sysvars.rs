//! Clock, rent and the log, all by syscall.

use pinocchio::sysvars::{clock::CLOCK_ID, get_sysvar, rent::RENT_ID};

use crate::{errors::MarketError, math, quantities::Time};

/// Chain time in milliseconds. The clock counts whole seconds.
///
/// # Errors
/// Whatever the runtime answers.
#[inline(never)]
pub fn now() -> Result<Time, MarketError> {
    let mut raw = [0u8; 8];
    // the fifth field of the clock: unix_timestamp
    get_sysvar(&mut raw, &CLOCK_ID, 32)?;
    let seconds = i64::from_le_bytes(raw);
    if !(0..=i64::MAX / 1_000).contains(&seconds) {
        return Err(MarketError::MathOverflow);
    }
    let millis = math::mul_div_floor(seconds as u64, 1_000, 1)?;
    Ok(Time::new(millis as i64))
}

/// Rent-exempt minimum, from both fields of the sysvar.
///
/// pinocchio's `Rent` reads only `lamports_per_byte` and is a factor of 2 low on clusters that still
/// carry an exemption threshold of 2.0 years.
///
/// # Errors
/// `RuntimeRefused` on a threshold other than 1.0 or 2.0.
#[inline(never)]
pub fn rent_minimum(len: usize) -> Result<u64, MarketError> {
    let mut raw = [0u8; 16];
    get_sysvar(&mut raw, &RENT_ID, 0)?;
    let (mut low, mut high) = ([0u8; 8], [0u8; 8]);
    low.copy_from_slice(&raw[..8]);
    high.copy_from_slice(&raw[8..]);
    let factor = match u64::from_le_bytes(high) {
        0x3FF0_0000_0000_0000 => 1, // 1.0
        0x4000_0000_0000_0000 => 2, // 2.0
        _ => return Err(MarketError::RuntimeRefused),
    };
    let per_byte = math::mul_div_floor(u64::from_le_bytes(low), factor, 1)?;
    math::mul_div_floor(per_byte, 128 + len as u64, 1)
}

/// The longest event, without its discriminator.
pub const LONGEST_EVENT: usize = 384;

/// Writes an event to the transaction's log as Anchor does: one slice.
#[inline(never)]
pub fn log_event(discriminator: [u8; 8], body: &[u8]) {
    let mut wire = [0u8; 8 + LONGEST_EVENT];
    wire[..8].copy_from_slice(&discriminator);
    let len = 8 + body.len();
    if let Some(rest) = wire.get_mut(8..len) {
        rest.copy_from_slice(body);
        log_data(&wire[..len]);
    }
}

fn log_data(bytes: &[u8]) {
    #[cfg(target_arch = "bpf")]
    {
        let slices: [&[u8]; 1] = [bytes];
        // SAFETY: `&[u8]` is (pointer, length), which is what the syscall reads.
        unsafe { pinocchio::syscalls::sol_log_data(slices.as_ptr().cast::<u8>(), 1) }
    }
    #[cfg(not(target_arch = "bpf"))]
    core::hint::black_box(bytes);
}

/// Whether this instruction was sent by the transaction itself, not by another program.
#[must_use]
pub fn is_top_level() -> bool {
    #[cfg(target_arch = "bpf")]
    {
        // SAFETY: no arguments.
        unsafe { pinocchio::syscalls::sol_get_stack_height() == 1 }
    }
    #[cfg(not(target_arch = "bpf"))]
    true
}
