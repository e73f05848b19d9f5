//! Copying, filling and comparing memory by syscall: shorter than the compiler's loops, and cheaper.
//!
//! The code that LLVM emits calls these by name; they take the place of `compiler_builtins`' weak ones.

use pinocchio::syscalls::{sol_memcmp_, sol_memcpy_, sol_memmove_, sol_memset_};

/// # Safety
/// As C's.
#[no_mangle]
pub unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe { sol_memcpy_(to, from, len as u64) };
    to
}

/// # Safety
/// As C's.
#[no_mangle]
pub unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe { sol_memmove_(to, from, len as u64) };
    to
}

/// # Safety
/// As C's.
#[no_mangle]
pub unsafe extern "C" fn memset(to: *mut u8, byte: i32, len: usize) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe { sol_memset_(to, byte as u8, len as u64) };
    to
}

/// # Safety
/// As C's.
#[no_mangle]
pub unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    let mut result = 0i32;
    // SAFETY: the caller's promise; four bytes are written.
    unsafe { sol_memcmp_(a, b, len as u64, &mut result) };
    result
}

/// # Safety
/// As C's.
#[no_mangle]
pub unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { memcmp(a, b, len) }
}
