//! Who may initialize a deployment that has no upgrade authority.
//!
//! A program under the upgradeable loader is initialized by its upgrade authority. One that was loaded
//! in another way (a local chain, a final deployment) has none; there it is this key. The default
//! is the ed25519 public key of the published seed `sha256("reaver-market/localnet/admin")`: anybody
//! has its secret key, so it is for local chains only. Any other deployment without an upgrade
//! authority is built with `REAVER_INITIAL_ADMIN=<base58 address>` in the environment.

use pinocchio::Address;

/// The compiled-in key.
pub const INITIAL_ADMIN: Address =
    Address::from_str_const(match option_env!("REAVER_INITIAL_ADMIN") {
        Some(address) => address,
        None => "9nkZ5suGx6EEiG2TyHk7PMqUXsro1wUMuhGqyKGbx3id",
    });
