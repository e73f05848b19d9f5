//! Specification
//! Signs: the operator.
//! Changes: adds to the operator's own stake.
//! Refuses: nothing at all, a dead pool, a retired node, a pause.

use crate::{
    checks::{self, require},
    errors::MarketError,
    events,
    quantities::{Key, Stake},
    staking::Incoming,
    state::{node_status, pause, Config, Node, Pool, Position},
    Ctx,
};

instruction! {
    /// Adds to the operator's own stake.
    bond {
        accounts {
            operator: [signer],
            config: Config [],
            node: Node [],
            pool: Pool [writable],
            position: [writable],
            stake_source: [writable],
            pool_stake: [writable],
            token_program: TokenProgram [],
        }
        args {
            amount: Stake,
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
    let config: &Config = checks::load(a.config, program_id)?;
    require(!config.is_paused(pause::BOND), MarketError::Paused)?;
    let node: &Node = checks::load(a.node, program_id)?;
    require(node.operator.is(a.operator), MarketError::NotOperator)?;
    require(node.pool.is(a.pool), MarketError::WrongPool)?;
    require(
        node.status != node_status::RETIRED,
        MarketError::NodeRetired,
    )?;
    let pool: &mut Pool = checks::load_mut(a.pool, program_id)?;
    let position: &mut Position = checks::load_mut(a.position, program_id)?;
    position.require_operators(&node.pool, &node.operator)?;
    let shares = Incoming {
        authority: a.operator,
        source: a.stake_source,
        pool_stake: a.pool_stake,
        amount: args.amount,
    }
    .join(pool, position)?;
    events::Bonded {
        node: Key::of(a.node),
        pool: node.pool,
        operator: node.operator,
        amount: args.amount,
        shares,
    }
    .emit();
    Ok(())
}
