//! Specification
//! Signs: the operator (pays the ticket's rent).
//! Changes: shares of the bond leave for the unbonding bucket, as a ticket.
//! Refuses: less than class bond and held compensations left while the node is active or has attempts. Never paused.

use crate::{
    checks::{self, require},
    errors::MarketError,
    quantities::{Key, Shares},
    staking::Outgoing,
    state::{node_status, Class, Config, Node, Pool, Position},
    Ctx,
};

instruction! {
    /// Takes a part of the operator's own stake out.
    unbond_bond {
        accounts {
            operator: [signer, writable],
            config: Config [],
            node: Node [],
            class_account: Class [],
            pool: Pool [writable],
            position: [writable],
            ticket: [writable],
            system_program: SystemProgram [],
        }
        args {
            shares: Shares,
        }
    }
}

/// # Errors
/// Whatever the specification above refuses.
#[inline(never)]
pub fn process(ctx: Ctx<'_>) -> Result<(), MarketError> {
    let program_id = ctx.program_id;
    let args = Args::parse(ctx.data)?;
    let a = Accounts::parse(program_id, ctx.accounts)?;
    let node: &Node = checks::load(a.node, program_id)?;
    require(node.operator.is(a.operator), MarketError::NotOperator)?;
    require(node.pool.is(a.pool), MarketError::WrongPool)?;
    let class: &Class = checks::load(a.class_account, program_id)?;
    require(class.class_id == node.class_id, MarketError::WrongClass)?;
    let address = Key::of(a.position);
    let pool: &mut Pool = checks::load_mut(a.pool, program_id)?;
    let position: &mut Position = checks::load_mut(a.position, program_id)?;
    position.require_operators(&node.pool, &node.operator)?;
    Outgoing {
        program_id,
        owner: a.operator,
        config: checks::load::<Config>(a.config, program_id)?,
        pool: node.pool,
        position: address,
        shares: args.shares,
    }
    .leave(pool, position, a.ticket)?;
    if node.status == node_status::ACTIVE || !node.attempts.is_zero() {
        require(
            pool.bond()? >= class.minimum_bond.plus(node.held)?,
            MarketError::BondBelowClass,
        )?;
    }
    Ok(())
}
