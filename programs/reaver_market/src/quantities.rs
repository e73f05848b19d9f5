//! What the program counts, each in a type of its own.
//!
//! The bytes are the wire's (little endian, alignment 1), so a quantity stands in accounts, arguments
//! and events as it is. Sums and differences are checked; products and quotients are in `math` only.

use crate::{
    declare::{Field, Kind},
    errors::MarketError,
};

/// Checked sums and differences of a stored number, out of line: there are many, and inlined each is three
/// times the call.
trait InPlace: Sized {
    /// How it is stored.
    type Bytes;
    fn grow(to: &mut Self::Bytes, by: Self) -> Result<(), MarketError>;
    fn shrink(from: &mut Self::Bytes, by: Self) -> Result<(), MarketError>;
}

macro_rules! in_place {
    ($($int:ty),+) => {$(
        impl InPlace for $int {
            type Bytes = [u8; core::mem::size_of::<$int>()];
            #[inline(never)]
            fn grow(to: &mut Self::Bytes, by: Self) -> Result<(), MarketError> {
                match <$int>::from_le_bytes(*to).checked_add(by) {
                    Some(sum) => {
                        *to = sum.to_le_bytes();
                        Ok(())
                    }
                    None => Err(MarketError::MathOverflow),
                }
            }
            #[inline(never)]
            fn shrink(from: &mut Self::Bytes, by: Self) -> Result<(), MarketError> {
                match <$int>::from_le_bytes(*from).checked_sub(by) {
                    Some(difference) => {
                        *from = difference.to_le_bytes();
                        Ok(())
                    }
                    None => Err(MarketError::MathUnderflow),
                }
            }
        }
    )+};
}
in_place!(u16, u32, u64, u128, i64);

macro_rules! quantity {
    ($(#[doc = $doc:literal])+ $name:ident($int:ty, $len:literal, $idl:literal)) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, PartialEq, Eq, Default)]
        #[repr(transparent)]
        pub struct $name([u8; $len]);
        // SAFETY: transparent over bytes.
        unsafe impl Field for $name {
            const KIND: Kind = Kind::Primitive($idl);
        }
        impl $name {
            /// Nothing.
            pub const ZERO: Self = Self([0; $len]);
            /// The largest value.
            pub const MAX: Self = Self::new(<$int>::MAX);
            /// From the number.
            #[inline(always)]
            #[must_use]
            pub const fn new(value: $int) -> Self {
                Self(value.to_le_bytes())
            }
            /// The number.
            #[inline(always)]
            #[must_use]
            pub const fn get(self) -> $int {
                <$int>::from_le_bytes(self.0)
            }
            /// Whether it is nothing.
            #[inline(always)]
            #[must_use]
            pub const fn is_zero(self) -> bool {
                self.get() == 0
            }
            /// The sum.
            ///
            /// # Errors
            /// `MathOverflow`.
            #[inline(always)]
            pub fn plus(self, other: Self) -> Result<Self, MarketError> {
                match self.get().checked_add(other.get()) {
                    Some(sum) => Ok(Self::new(sum)),
                    None => Err(MarketError::MathOverflow),
                }
            }
            /// The sum, at most the largest value: for counters that must never block a way out.
            #[inline(always)]
            #[must_use]
            pub fn plus_at_most(self, other: Self) -> Self {
                Self::new(self.get().saturating_add(other.get()))
            }
            /// The difference, at least the smallest value.
            #[inline(always)]
            #[must_use]
            pub fn minus_at_most(self, other: Self) -> Self {
                Self::new(self.get().saturating_sub(other.get()))
            }
            /// The difference.
            ///
            /// # Errors
            /// `MathUnderflow`.
            #[inline(always)]
            pub fn minus(self, other: Self) -> Result<Self, MarketError> {
                match self.get().checked_sub(other.get()) {
                    Some(difference) => Ok(Self::new(difference)),
                    None => Err(MarketError::MathUnderflow),
                }
            }
        }
        impl $name {
            /// Adds in place: shorter than a sum that is stored again.
            ///
            /// # Errors
            /// `MathOverflow`.
            #[inline(always)]
            pub fn grow(&mut self, by: Self) -> Result<(), MarketError> {
                <$int as InPlace>::grow(&mut self.0, by.get())
            }
            /// Subtracts in place.
            ///
            /// # Errors
            /// `MathUnderflow`.
            #[inline(always)]
            pub fn shrink(&mut self, by: Self) -> Result<(), MarketError> {
                <$int as InPlace>::shrink(&mut self.0, by.get())
            }
        }
        impl PartialOrd for $name {
            #[inline(always)]
            fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }
        impl Ord for $name {
            #[inline(always)]
            fn cmp(&self, other: &Self) -> core::cmp::Ordering {
                self.get().cmp(&other.get())
            }
        }
        #[cfg(not(target_arch = "bpf"))]
        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                write!(f, "{}({})", stringify!($name), self.get())
            }
        }
    };
}

quantity! {
    /// Base units of the payment token.
    Tokens(u64, 8, "u64")
}
quantity! {
    /// Base units of the stake token.
    Stake(u64, 8, "u64")
}
quantity! {
    /// Shares of a pool's bucket.
    Shares(u128, 16, "u128")
}
quantity! {
    /// Q64.64 reward per share, or its remainder.
    Accumulator(u128, 16, "u128")
}
quantity! {
    /// Base units of the payment token per hour.
    Price(u64, 8, "u64")
}
quantity! {
    /// Payment base units that 1,000,000 stake base units stand for.
    Rate(u64, 8, "u64")
}
quantity! {
    /// A span of time in milliseconds.
    Millis(u64, 8, "u64")
}
quantity! {
    /// A moment of chain time: milliseconds since 1970. Zero: not set.
    Time(i64, 8, "i64")
}
quantity! {
    /// Hundredths of a percent.
    Bps(u16, 2, "u16")
}
quantity! {
    /// A reason code (api.md, section 10.2).
    Reason(u16, 2, "u16")
}
quantity! {
    /// How many of something there are, or an attempt's number.
    Count(u32, 4, "u32")
}
quantity! {
    /// A sequence number, a nonce or an index.
    Number(u64, 8, "u64")
}

impl Time {
    /// The moment a span later.
    ///
    /// # Errors
    /// `MathOverflow`.
    #[inline(always)]
    pub fn after(self, span: Millis) -> Result<Self, MarketError> {
        match self.get().checked_add_unsigned(span.get()) {
            Some(moment) => Ok(Self::new(moment)),
            None => Err(MarketError::MathOverflow),
        }
    }

    /// The moment a span earlier.
    ///
    /// # Errors
    /// `MathUnderflow`.
    #[inline(always)]
    pub fn before(self, span: Millis) -> Result<Self, MarketError> {
        match self.get().checked_sub_unsigned(span.get()) {
            Some(moment) => Ok(Self::new(moment)),
            None => Err(MarketError::MathUnderflow),
        }
    }

    /// The span since an earlier moment; nothing when that one is later.
    #[inline(always)]
    #[must_use]
    pub fn since(self, earlier: Self) -> Millis {
        if self <= earlier {
            return Millis::ZERO;
        }
        Millis::new(self.get().wrapping_sub(earlier.get()) as u64)
    }

    /// The number of the UTC day.
    #[inline(always)]
    #[must_use]
    pub fn day(self) -> Number {
        Number::new(self.since(Self::ZERO).get() / 86_400_000)
    }
}

/// A SHA-256 hash, or the cluster's genesis hash.
pub type Hash = [u8; 32];

/// An address: 32 bytes.
#[derive(Clone, Copy, Default)]
#[repr(transparent)]
pub struct Key(pub [u8; 32]);
impl PartialEq for Key {
    #[inline(always)]
    fn eq(&self, other: &Self) -> bool {
        crate::checks::same(&self.0, &other.0)
    }
}
impl Eq for Key {}
// SAFETY: transparent over bytes.
unsafe impl Field for Key {
    const KIND: Kind = Kind::Primitive("pubkey");
}
impl Key {
    /// No address.
    pub const ZERO: Self = Self([0; 32]);

    /// The address of an account view. Not inlined: a copy is eight instructions, a call three.
    #[inline(never)]
    #[must_use]
    pub fn of(view: &pinocchio::AccountView) -> Self {
        Self(*view.address().as_array())
    }

    /// Whether the view is that account.
    #[inline(always)]
    #[must_use]
    pub fn is(&self, view: &pinocchio::AccountView) -> bool {
        self == view.address()
    }
}
impl PartialEq<pinocchio::Address> for Key {
    #[inline(always)]
    fn eq(&self, other: &pinocchio::Address) -> bool {
        crate::checks::same(&self.0, other.as_array())
    }
}
#[cfg(not(target_arch = "bpf"))]
impl core::fmt::Debug for Key {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Key({:02x?})", self.0)
    }
}

/// True or false, one byte.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct Bool(u8);
// SAFETY: transparent over a byte; bytes above 1 are refused by `parse` where a caller chose them.
unsafe impl Field for Bool {
    const KIND: Kind = Kind::Primitive("bool");
}
impl Bool {
    /// False.
    pub const NO: Self = Self(0);
    /// True.
    pub const YES: Self = Self(1);

    /// From the language's own.
    #[inline(always)]
    #[must_use]
    pub const fn new(value: bool) -> Self {
        Self(value as u8)
    }

    /// Whether it is true.
    #[inline(always)]
    #[must_use]
    pub const fn get(self) -> bool {
        self.0 != 0
    }

    /// A caller's byte, refused unless it is 0 or 1.
    ///
    /// # Errors
    /// `WrongArguments`.
    pub const fn parse(self) -> Result<bool, MarketError> {
        match self.0 {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(MarketError::WrongArguments),
        }
    }
}
#[cfg(not(target_arch = "bpf"))]
impl core::fmt::Debug for Bool {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Bool({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sums_and_differences_are_checked(a: u64, b: u64) {
            let (x, y) = (Tokens::new(a), Tokens::new(b));
            prop_assert_eq!(x.plus(y).ok().map(Tokens::get), a.checked_add(b));
            prop_assert_eq!(x.minus(y).ok().map(Tokens::get), a.checked_sub(b));
            prop_assert_eq!(x < y, a < b);
        }

        #[test]
        fn times_shift_and_differ(at: i64, span: u64) {
            let moved = Time::new(at).after(Millis::new(span)).ok();
            prop_assert_eq!(moved.map(Time::get), at.checked_add_unsigned(span));
            if let Some(later) = moved {
                prop_assert_eq!(later.since(Time::new(at)).get(), span);
                prop_assert_eq!(Time::new(at).since(later).get(), 0);
                prop_assert_eq!(later.before(Millis::new(span)).ok(), Some(Time::new(at)));
            }
        }
    }

    #[test]
    fn a_day_is_utc() {
        assert_eq!(Time::new(86_399_999).day().get(), 0);
        assert_eq!(Time::new(86_400_000).day().get(), 1);
        assert_eq!(Time::new(-5).day().get(), 0);
    }

    #[test]
    fn only_zero_and_one_are_booleans() {
        assert_eq!(Bool(0).parse(), Ok(false));
        assert_eq!(Bool(1).parse(), Ok(true));
        assert_eq!(Bool(2).parse(), Err(MarketError::WrongArguments));
    }
}
