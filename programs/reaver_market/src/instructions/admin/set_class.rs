//! Specification
//! Signs: the admin; the payer.
//! Changes: makes a class, or its bond and whether it is enabled.
//! Refuses: a stranger, the id of zeros.

use pinocchio::ProgramResult;

use crate::{
    errors::MarketError,
    quantities::{Bool, Stake},
    state::{ClassId},
    Ctx,
};

instruction! {
    /// Makes or changes a class of machines.
    set_class {
        accounts {
            payer: [signer, writable],
            admin: [signer],
            config: [],
            class_account: [writable],
            system_program: [],
        }
        args {
            class_id: ClassId,
            minimum_bond: Stake,
            enabled: Bool,
        }
    }
}

/// # Errors
/// Whatever the specification above refuses.
pub fn process(_ctx: Ctx<'_>) -> ProgramResult {
    Err(MarketError::Unwritten.into())
}
