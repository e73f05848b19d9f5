//! One declaration per instruction, account, event and error.
//!
//! Each macro expands to the wire layout, its parser, and (on the host) its entry in the IDL, so that
//! the three can't drift apart. Every field type has alignment 1: memory layout = Borsh layout.

use sha2_const_stable::Sha256;

/// Anchor's eight-byte discriminator of `namespace:name`.
#[must_use]
pub const fn discriminator(namespace: &str, name: &str) -> [u8; 8] {
    let hash = Sha256::new()
        .update(namespace.as_bytes())
        .update(b":")
        .update(name.as_bytes())
        .finalize();
    [
        hash[0], hash[1], hash[2], hash[3], hash[4], hash[5], hash[6], hash[7],
    ]
}

/// The IDL's name of a field type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A primitive by its name in Anchor's current specification.
    Primitive(&'static str),
    /// A fixed array.
    Array(&'static Kind, usize),
    /// A struct declared by `record!`.
    Defined(&'static str),
}

/// A type that may stand in an account, an argument list, an event or a signed message.
///
/// # Safety
/// Alignment 1, no padding, every bit pattern valid: the bytes are reinterpreted in place.
pub unsafe trait Field: Copy {
    /// How the IDL calls it.
    const KIND: Kind;
}

// SAFETY: bytes.
unsafe impl Field for u8 {
    const KIND: Kind = Kind::Primitive("u8");
}
// SAFETY: an array of such fields has their alignment and no padding.
unsafe impl<T: Field, const N: usize> Field for [T; N] {
    const KIND: Kind = Kind::Array(&T::KIND, N);
}

/// The bytes of a field.
pub fn bytes_of<T: Field>(value: &T) -> &[u8] {
    // SAFETY: `Field` promises alignment 1 and no padding.
    unsafe {
        core::slice::from_raw_parts(
            core::ptr::from_ref(value).cast::<u8>(),
            core::mem::size_of::<T>(),
        )
    }
}

/// Copies a large value. Not inlined: an assignment is two instructions for each eight bytes.
#[inline(always)]
pub fn put<T: Field>(to: &mut T, from: &T) {
    copy(core::ptr::from_mut(to).cast(), bytes_of(from));
}

#[inline(never)]
fn copy(to: *mut u8, from: &[u8]) {
    // SAFETY: `put` passes two values of one type, behind references that can't overlap.
    unsafe { core::ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) }
}

/// Empties a large value, as `put` copies one.
#[inline(always)]
pub fn clear<T: Field>(value: &mut T) {
    zero(core::ptr::from_mut(value).cast(), core::mem::size_of::<T>());
}

#[inline(never)]
fn zero(to: *mut u8, len: usize) {
    // SAFETY: `clear` passes a whole value, of which every bit pattern is valid.
    unsafe { core::ptr::write_bytes(to, 0, len) }
}

/// Reads exactly one value out of bytes of exactly its length.
#[must_use]
pub fn view_of<T: Field>(bytes: &[u8]) -> Option<&T> {
    if bytes.len() != core::mem::size_of::<T>() {
        return None;
    }
    // SAFETY: the length is right; `Field` promises alignment 1 and that every bit pattern is valid.
    Some(unsafe { &*bytes.as_ptr().cast::<T>() })
}

/// A struct without header that stands inside accounts, arguments, events or messages.
#[macro_export]
macro_rules! record {
    ($(#[doc = $doc:literal])+ $name:ident { $($(#[doc = $fdoc:literal])* $field:ident : $ty:ty),+ $(,)? }) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, PartialEq, Eq)]
        #[cfg_attr(not(target_arch = "bpf"), derive(Debug))]
        #[repr(C)]
        #[allow(missing_docs)]
        pub struct $name { $($(#[doc = $fdoc])* pub $field: $ty),+ }
        // SAFETY: repr(C) of `Field`s only (checked by the array below): alignment 1, no padding.
        unsafe impl $crate::declare::Field for $name {
            const KIND: $crate::declare::Kind = $crate::declare::Kind::Defined(stringify!($name));
        }
        impl $name {
            /// Size in bytes.
            pub const LEN: usize = 0 $(+ core::mem::size_of::<$ty>())+;
            /// All zero.
            pub const ZERO: Self = {
                const { assert!(core::mem::size_of::<$name>() == $name::LEN) };
                // SAFETY: every bit pattern is valid.
                unsafe { core::mem::zeroed() }
            };
            /// Its entry in the IDL.
            #[cfg(not(target_arch = "bpf"))]
            pub const IDL: $crate::idl::Struct = $crate::idl::Struct {
                name: stringify!($name),
                docs: &[$($doc),+],
                fields: &[$($crate::idl::FieldEntry {
                    name: stringify!($field),
                    docs: &[$($fdoc),*],
                    kind: <$ty as $crate::declare::Field>::KIND,
                }),+],
            };
        }
    };
}

/// A program account: discriminator, version, bump, the fields, and a reserved tail.
#[macro_export]
macro_rules! account {
    ($(#[doc = $doc:literal])+ $name:ident, reserved $reserved:literal { $($(#[doc = $fdoc:literal])* $field:ident : $ty:ty),+ $(,)? }) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, PartialEq, Eq)]
        #[cfg_attr(not(target_arch = "bpf"), derive(Debug))]
        #[repr(C)]
        #[allow(missing_docs)]
        pub struct $name {
            pub discriminator: [u8; 8],
            pub version: u8,
            pub bump: u8,
            $($(#[doc = $fdoc])* pub $field: $ty,)+
            pub reserved: [u8; $reserved],
        }
        // SAFETY: repr(C) of `Field`s only: alignment 1, no padding (`LEN` is checked below).
        unsafe impl $crate::declare::Field for $name {
            const KIND: $crate::declare::Kind = $crate::declare::Kind::Defined(stringify!($name));
        }
        impl $crate::state::Account for $name {
            const TYPE: u8 = $crate::checks::account_type::$name;
            const DISCRIMINATOR: [u8; 8] = $crate::declare::discriminator("account", stringify!($name));
            const LEN: usize = {
                const SUM: usize = 10 $(+ core::mem::size_of::<$ty>())+ + $reserved;
                const { assert!(core::mem::size_of::<$name>() == SUM) };
                SUM
            };
        }
        impl $name {
            /// Its entry in the IDL.
            #[cfg(not(target_arch = "bpf"))]
            pub const IDL: $crate::idl::Struct = $crate::idl::Struct {
                name: stringify!($name),
                docs: &[$($doc),+],
                fields: &[
                    $crate::idl::FieldEntry { name: "version", docs: &[], kind: $crate::declare::Kind::Primitive("u8") },
                    $crate::idl::FieldEntry { name: "bump", docs: &[], kind: $crate::declare::Kind::Primitive("u8") },
                    $($crate::idl::FieldEntry {
                        name: stringify!($field),
                        docs: &[$($fdoc),*],
                        kind: <$ty as $crate::declare::Field>::KIND,
                    },)+
                    $crate::idl::FieldEntry { name: "reserved", docs: &[], kind: <[u8; $reserved] as $crate::declare::Field>::KIND },
                ],
            };
        }
    };
}

/// Events: each a struct with `emit`, which logs discriminator and fields as one slice.
#[macro_export]
macro_rules! events {
    ($($(#[doc = $doc:literal])+ $name:ident { $($field:ident : $ty:ty),+ $(,)? })+) => {
        $(
            $(#[doc = $doc])+
            #[derive(Clone, Copy)]
            #[repr(C)]
            #[allow(missing_docs)]
            #[must_use]
            pub struct $name { $(pub $field: $ty),+ }
            // SAFETY: repr(C) of `Field`s only: alignment 1, no padding.
            unsafe impl $crate::declare::Field for $name {
                const KIND: $crate::declare::Kind = $crate::declare::Kind::Defined(stringify!($name));
            }
            impl $name {
                /// `sha256("event:Name")[..8]`.
                pub const DISCRIMINATOR: [u8; 8] = $crate::declare::discriminator("event", stringify!($name));
                /// Writes the event to the transaction's log.
                #[inline(always)]
                pub fn emit(&self) {
                    const { assert!(core::mem::size_of::<$name>() <= $crate::sysvars::LONGEST_EVENT) };
                    $crate::sysvars::log_event(Self::DISCRIMINATOR, $crate::declare::bytes_of(self));
                }
            }
        )+
        /// All events, for the IDL.
        #[cfg(not(target_arch = "bpf"))]
        pub const ALL: &[$crate::idl::Struct] = &[$($crate::idl::Struct {
            name: stringify!($name),
            docs: &[$($doc),+],
            fields: &[$($crate::idl::FieldEntry {
                name: stringify!($field), docs: &[], kind: <$ty as $crate::declare::Field>::KIND,
            }),+],
        }),+];
    };
}

/// Errors: consecutive numbers from 6000, one per refusal.
#[macro_export]
macro_rules! errors {
    ($($name:ident = $message:literal;)+) => {
        /// Why the program refused. The number is the position in this list, from 6000.
        #[derive(Clone, Copy, PartialEq, Eq)]
        #[cfg_attr(not(target_arch = "bpf"), derive(Debug))]
        #[repr(u64)]
        pub enum MarketError {
            $(#[doc = $message] $name),+
        }
        impl MarketError {
            /// The number that clients see.
            #[inline(always)]
            #[must_use]
            pub const fn code(self) -> u32 {
                6_000 + self as u32
            }
        }
        /// All errors, for the IDL.
        #[cfg(not(target_arch = "bpf"))]
        pub const ALL: &[$crate::idl::ErrorEntry] = &[$($crate::idl::ErrorEntry {
            code: MarketError::$name.code(), name: stringify!($name), message: $message,
        }),+];
    };
}

/// The Rust type of a declared account, and its flags as the dispatcher checks them.
#[doc(hidden)]
#[macro_export]
macro_rules! declared {
    (type [$($flag:ident),*]) => { pinocchio::AccountView };
    (type TokenProgram [$($flag:ident),*]) => { pinocchio::AccountView };
    (type SystemProgram [$($flag:ident),*]) => { pinocchio::AccountView };
    (type $kind:ident [$($flag:ident),*]) => {
        $crate::checks::Typed<$crate::state::$kind, { $crate::declared!(flags [$($flag),*]) }>
    };
    (flags [$($flag:ident),*]) => { 0 $(| $crate::checks::flag::$flag)* };
    (byte [$($flag:ident),*]) => { $crate::declared!(flags [$($flag),*]) };
    (byte $kind:ident [$($flag:ident),*]) => {
        $crate::declared!(flags [$($flag),*]) | ($crate::checks::account_type::$kind << $crate::checks::flag::BITS)
    };
}

/// An instruction: `Accounts`, `Args`, their parsers, the discriminator and the IDL entry.
///
/// An account's flags are `signer`, `writable` and `optional`; an optional account that is absent is
/// given as the program's own address, as Anchor does. An account of this program that exists before
/// the instruction may carry its type before the flags (`escrow: Escrow [writable]`): it is then checked
/// before the instruction runs, by one loop for all, and loading it costs nothing. So is a program that it
/// calls (`token_program: TokenProgram []`).
#[macro_export]
macro_rules! instruction {
    ($(#[doc = $doc:literal])+ $name:ident {
        accounts { $($(#[doc = $adoc:literal])* $acc:ident : $($kind:ident)? [$($flag:ident),*]),+ $(,)? }
        args { $($(#[doc = $fdoc:literal])* $field:ident : $ty:ty),* $(,)? }
    }) => {
        /// The accounts, in order; what is declared of them is checked by the dispatcher.
        #[allow(missing_docs)]
        pub struct Accounts<'a> {
            $($(#[doc = $adoc])* pub $acc: &'a mut $crate::declared!(type $($kind)? [$($flag),*])),+
        }
        impl<'a> Accounts<'a> {
            /// Sorts the accounts. Private, so that only this instruction reads what was checked for it.
            ///
            /// # Errors
            /// `WrongAccountCount`.
            #[inline(always)]
            #[allow(dead_code)] // of no use where several instructions share a layout
            fn parse(
                _: &pinocchio::Address,
                accounts: $crate::checks::Checked<'a>,
            ) -> Result<Self, $crate::errors::MarketError> {
                let [$($acc),+] = accounts.all() else {
                    return Err($crate::errors::MarketError::WrongAccountCount);
                };
                // SAFETY: a typed account is a view whose type was checked: the dispatcher has checked
                // `DECLARED` of this instruction before `process` could get at `Checked`.
                Ok(Self { $($acc: unsafe { &mut *core::ptr::from_mut($acc).cast() }),+ })
            }
        }
        /// The arguments, in order.
        #[derive(Clone, Copy)]
        #[repr(C)]
        #[allow(missing_docs)]
        pub struct Args { $($(#[doc = $fdoc])* pub $field: $ty),* }
        // SAFETY: repr(C) of `Field`s only: alignment 1, no padding.
        unsafe impl $crate::declare::Field for Args {
            const KIND: $crate::declare::Kind = $crate::declare::Kind::Defined("Args");
        }
        impl Args {
            /// # Errors
            /// `WrongArguments` unless the data has exactly the declared length.
            #[inline(always)]
            pub fn parse(data: &[u8]) -> Result<&Self, $crate::errors::MarketError> {
                const { assert!(core::mem::size_of::<Args>() == 0 $(+ core::mem::size_of::<$ty>())*) };
                $crate::declare::view_of(data).ok_or($crate::errors::MarketError::WrongArguments)
            }
        }
        /// `sha256("global:name")[..8]`.
        pub const DISCRIMINATOR: [u8; 8] = $crate::declare::discriminator("global", stringify!($name));
        /// The discriminator as the dispatcher compares it.
        pub const HEAD: u64 = u64::from_le_bytes(DISCRIMINATOR);
        /// The accounts as the dispatcher checks them.
        pub const DECLARED: $crate::checks::Declared = $crate::checks::declared(
            &[$($crate::declared!(byte $($kind)? [$($flag),*])),+],
            core::mem::size_of::<Args>(),
        );
        /// Its entry in the IDL.
        #[cfg(not(target_arch = "bpf"))]
        pub const IDL: $crate::idl::Instruction = $crate::idl::Instruction {
            name: stringify!($name),
            docs: &[$($doc),+],
            accounts: &[$($crate::idl::AccountEntry {
                name: stringify!($acc),
                docs: &[$($adoc),*],
                flags: $crate::declared!(flags [$($flag),*]),
            }),+],
            args: &[$($crate::idl::FieldEntry {
                name: stringify!($field),
                docs: &[$($fdoc),*],
                kind: <$ty as $crate::declare::Field>::KIND,
            }),*],
        };
    };
}

#[cfg(test)]
mod tests {
    use super::discriminator;

    #[test]
    fn discriminators_are_anchors() {
        // every Anchor program's `initialize`
        assert_eq!(
            discriminator("global", "initialize"),
            [0xaf, 0xaf, 0x6d, 0x1f, 0x0d, 0x98, 0x9b, 0xed]
        );
    }
}
