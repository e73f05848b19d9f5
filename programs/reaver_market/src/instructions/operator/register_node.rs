//! Specification
//! Signs: the operator (pays the rent) and the node's key.
//! Changes: makes node, pool, the operator's position and the pool's two token accounts; takes the bond.
//! Refuses: a bond below the class bond, a disabled class, a payout account that is not the operator's, a pause.

use pinocchio::ProgramResult;

use crate::{
    errors::MarketError,
    quantities::{Bps, Stake},
    Ctx,
};

instruction! {
    /// Makes a node with its pool and bond.
    register_node {
        accounts {
            operator: [signer, writable],
            node_key: [signer],
            config: [],
            market: [],
            class_account: [],
            node: [writable],
            pool: [writable],
            position: [writable],
            pool_stake: [writable],
            pool_fees: [writable],
            payout: [],
            stake_source: [writable],
            payment_mint: [],
            stake_mint: [],
            token_program: [],
            system_program: [],
        }
        args {
            bond: Stake,
            commission_bps: Bps,
        }
    }
}

/// # Errors
/// Whatever the specification above refuses.
pub fn process(_ctx: Ctx<'_>) -> ProgramResult {
    Err(MarketError::Unwritten.into())
}
