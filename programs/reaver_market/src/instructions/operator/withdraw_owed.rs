//! Specification
//! Signs: the operator.
//! Changes: pays what the payout account couldn't take to any account the operator names.
//! Refuses: when nothing is owed. Never paused.

use crate::{
    checks::{self, require},
    errors::MarketError,
    events,
    quantities::{Key, Tokens},
    staking::PoolVault,
    state::{Node, Pool},
    Ctx,
};

instruction! {
    /// Pays out what a node is owed.
    withdraw_owed {
        accounts {
            operator: [signer],
            node: Node [writable],
            pool: Pool [],
            pool_fees: [writable],
            destination: [writable],
            token_program: TokenProgram [],
        }
        args {
        }
    }
}

/// # Errors
/// Whatever the specification above refuses.
#[inline(never)]
pub fn process(ctx: Ctx<'_>) -> Result<(), MarketError> {
    let program_id = ctx.program_id;
    Args::parse(ctx.data)?;
    let a = Accounts::parse(program_id, ctx.accounts)?;
    let address = Key::of(a.node);
    let node: &mut Node = checks::load_mut(a.node, program_id)?;
    require(node.operator.is(a.operator), MarketError::NotOperator)?;
    require(node.pool.is(a.pool), MarketError::WrongPool)?;
    let pool: &Pool = checks::load(a.pool, program_id)?;
    require(
        pool.fee_vault.is(a.pool_fees),
        MarketError::WrongTokenAccount,
    )?;
    let amount = node.owed;
    require(!amount.is_zero(), MarketError::NothingOwed)?;
    node.owed = Tokens::ZERO;

    // what stakers have not claimed stays
    PoolVault {
        account: a.pool_fees,
        pool: a.pool,
        node: &pool.node,
        bump: pool.bump,
    }
    .pay(a.destination, amount.get(), pool.fees_unclaimed.get())?;
    events::OwedWithdrawn {
        node: address,
        operator: node.operator,
        destination: Key::of(a.destination),
        amount,
    }
    .emit();
    Ok(())
}
