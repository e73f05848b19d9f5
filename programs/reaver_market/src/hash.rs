//! SHA-256: the syscall on the chain, a library on the host.

/// The hash of one slice.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    #[cfg(target_arch = "bpf")]
    {
        let slices: [&[u8]; 1] = [bytes];
        let mut out = [0u8; 32];
        // SAFETY: `&[u8]` is (pointer, length), which is what the syscall reads; 32 bytes are written.
        unsafe {
            pinocchio::syscalls::sol_sha256(slices.as_ptr().cast::<u8>(), 1, out.as_mut_ptr());
        }
        out
    }
    #[cfg(not(target_arch = "bpf"))]
    sha2_const_stable::Sha256::new().update(bytes).finalize()
}
