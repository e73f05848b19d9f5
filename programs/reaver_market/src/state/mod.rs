//! The program's accounts, one file each: layout, and rules that need nothing but the account.

mod allowance;
mod class;
mod config;
mod epoch;
mod escrow;
mod market;
mod node;
mod nonces;
mod pool;
mod position;
mod ticket;
mod vault;

pub use allowance::Allowance;
pub use class::{Class, ClassId, ANY_CLASS};
pub use config::{pause, Config, Params};
pub use epoch::{epoch_state, Epoch};
pub use escrow::{escrow_state, Attempt, Contest, Escrow, MAX_ATTEMPTS, MAX_DURATION};
pub use market::Market;
pub use node::{node_status, EpochSlot, Node};
pub use nonces::NonceWindow;
pub use pool::{Earned, Left, Pool};
pub use position::Position;
pub use ticket::Ticket;
pub use vault::Vault;

use crate::{checks::require, declare::Field, errors::MarketError};

/// The layout version that this program writes and reads.
pub const VERSION: u8 = 1;

/// An account of this program.
pub trait Account: Field {
    /// Its number among the checked types.
    const TYPE: u8;
    /// `sha256("account:Name")[..8]`.
    const DISCRIMINATOR: [u8; 8];
    /// The exact size.
    const LEN: usize;
    /// Discriminator and size, as the loader compares them.
    const HEAD: (u64, usize) = (u64::from_le_bytes(Self::DISCRIMINATOR), Self::LEN);
}

/// Checks type, exact size and version.
///
/// # Errors
/// `WrongAccountType`, `WrongAccountSize`, `WrongAccountVersion`.
#[inline(always)]
pub fn check(data: &[u8], discriminator: u64, len: usize) -> Result<(), MarketError> {
    let Some((head, rest)) = data.split_first_chunk::<8>() else {
        return Err(MarketError::WrongAccountType);
    };
    require(
        u64::from_le_bytes(*head) == discriminator,
        MarketError::WrongAccountType,
    )?;
    require(data.len() == len, MarketError::WrongAccountSize)?;
    require(
        rest.first() == Some(&VERSION),
        MarketError::WrongAccountVersion,
    )
}

/// Starts an account in fresh, zeroed data: discriminator, version and bump.
///
/// # Errors
/// `AlreadyInitialized`, `WrongAccountSize`.
pub fn start(data: &mut [u8], head: (u64, usize), bump: u8) -> Result<(), MarketError> {
    require(data.len() == head.1, MarketError::WrongAccountSize)?;
    let Some((header, _)) = data.split_first_chunk_mut::<10>() else {
        return Err(MarketError::WrongAccountSize);
    };
    require(header[..8] == [0; 8], MarketError::AlreadyInitialized)?;
    header[..8].copy_from_slice(&head.0.to_le_bytes());
    header[8] = VERSION;
    header[9] = bump;
    Ok(())
}

/// Starts an account in fresh bytes, for tests.
///
/// # Errors
/// As `start`.
#[cfg(not(target_arch = "bpf"))]
pub fn begin<T: Account>(data: &mut [u8], bump: u8) -> Result<&mut T, MarketError> {
    start(data, T::HEAD, bump)?;
    // SAFETY: the length is exact, alignment 1, every bit pattern valid.
    Ok(unsafe { &mut *data.as_mut_ptr().cast::<T>() })
}

/// All accounts, for the IDL.
#[cfg(not(target_arch = "bpf"))]
pub const ALL: &[crate::idl::Struct] = &[
    Config::IDL,
    Market::IDL,
    Class::IDL,
    Node::IDL,
    Pool::IDL,
    Position::IDL,
    Ticket::IDL,
    Vault::IDL,
    Allowance::IDL,
    Escrow::IDL,
    Epoch::IDL,
];

/// The structs inside accounts and arguments, for the IDL.
#[cfg(not(target_arch = "bpf"))]
pub const RECORDS: &[crate::idl::Struct] = &[
    Params::IDL,
    EpochSlot::IDL,
    NonceWindow::IDL,
    Attempt::IDL,
    Contest::IDL,
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The size of every account, so that no change of a layout goes unnoticed.
    #[test]
    fn sizes() {
        let sizes = [
            ("Config", Config::LEN),
            ("Market", Market::LEN),
            ("Class", Class::LEN),
            ("Node", Node::LEN),
            ("Pool", Pool::LEN),
            ("Position", Position::LEN),
            ("Ticket", Ticket::LEN),
            ("Vault", Vault::LEN),
            ("Allowance", Allowance::LEN),
            ("Escrow", Escrow::LEN),
            ("Epoch", Epoch::LEN),
        ];
        for ((name, size), account) in sizes.iter().zip(ALL) {
            assert_eq!(name, &account.name);
            assert_eq!(8 + account.size(RECORDS), *size, "{name}");
        }
        assert_eq!(
            sizes.map(|(_, size)| size),
            [569, 231, 67, 557, 388, 215, 202, 291, 338, 660, 123]
        );
    }

    #[test]
    fn foreign_bytes_are_refused() {
        fn check<T: Account>(data: &[u8]) -> Result<(), MarketError> {
            super::check(data, T::HEAD.0, T::HEAD.1)
        }
        let mut data = vec![0u8; Vault::LEN];
        assert_eq!(check::<Vault>(&data), Err(MarketError::WrongAccountType));
        begin::<Vault>(&mut data, 254).unwrap();
        assert_eq!(check::<Vault>(&data), Ok(()));
        assert_eq!(
            begin::<Vault>(&mut data, 254).err(),
            Some(MarketError::AlreadyInitialized)
        );
        assert_eq!(check::<Market>(&data), Err(MarketError::WrongAccountType));
        let short = &data[..Vault::LEN - 1];
        assert_eq!(check::<Vault>(short), Err(MarketError::WrongAccountSize));
        let mut long = data.clone();
        long.push(0);
        assert_eq!(check::<Vault>(&long), Err(MarketError::WrongAccountSize));
        data[8] = 2;
        assert_eq!(check::<Vault>(&data), Err(MarketError::WrongAccountVersion));
        assert_eq!(
            check::<Vault>(&data[..3]),
            Err(MarketError::WrongAccountType)
        );
    }
}
