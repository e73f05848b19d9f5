//! Specification
//! Signs: the operator.
//! Changes: the node's status; closes node, pool, the operator's position and the token accounts when all of them are empty.
//! Refuses: with attempts running or contested. Never paused.

use pinocchio::Address;

use crate::{
    checks::{self, require},
    cpi,
    errors::MarketError,
    events,
    quantities::{Count, Key, Stake},
    staking::PoolVault,
    state::{node_status, Config, Market, Node, Pool, Position},
    Ctx,
};

instruction! {
    /// Retires a node, and closes it once nothing of it is owed to anybody.
    retire {
        accounts {
            operator: [signer, writable],
            config: Config [],
            market: Market [writable],
            market_fees: [writable],
            node: Node [writable],
            pool: Pool [writable],
            position: [writable],
            pool_stake: [writable],
            pool_fees: [writable],
            emission_vault: [writable],
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
    Args::parse(ctx.data)?;
    let mut a = Accounts::parse(ctx.program_id, ctx.accounts)?;
    if settle(&mut a, ctx.program_id)? {
        close(a, ctx.program_id)?;
    }
    Ok(())
}

/// Retires the node; whether nothing of it is owed to anybody any more.
#[inline(never)]
fn settle(a: &mut Accounts<'_>, program_id: &Address) -> Result<bool, MarketError> {
    let (address, pool_address) = (Key::of(a.node), Key::of(a.pool));
    let config: &Config = checks::load(a.config, program_id)?;
    let node: &mut Node = checks::load_mut(a.node, program_id)?;
    require(node.operator.is(a.operator), MarketError::NotOperator)?;
    require(node.pool == pool_address, MarketError::WrongPool)?;
    require(node.market.is(a.market), MarketError::WrongMarket)?;
    let market: &Market = checks::load(a.market, program_id)?;
    let pool: &mut Pool = checks::load_mut(a.pool, program_id)?;
    let position: &mut Position = checks::load_mut(a.position, program_id)?;
    position.require_operators(&pool_address, &node.operator)?;
    require(
        market.fee_vault.is(a.market_fees)
            && config.emission_vault.is(a.emission_vault)
            && pool.stake_vault.is(a.pool_stake)
            && pool.fee_vault.is(a.pool_fees),
        MarketError::WrongTokenAccount,
    )?;
    require(node.attempts.is_zero(), MarketError::AttemptsOpen)?;
    if node.status != node_status::RETIRED {
        node.status = node_status::RETIRED;
        node.tell(address);
    }
    position.settle(pool)?;
    Ok(node.owed.is_zero()
        && node.held.is_zero()
        && pool.positions == Count::new(1)
        && position.is_empty()
        && pool.commission_fees.is_zero()
        && pool.commission_emission.is_zero())
}

/// Sends what rounding left, and closes everything; all rent goes to the operator, who paid it.
#[inline(never)]
fn close(a: Accounts<'_>, program_id: &Address) -> Result<(), MarketError> {
    let stake_surplus = Stake::new(checks::balance(a.pool_stake)?.get());
    let fee_surplus = checks::balance(a.pool_fees)?;
    let pool: &Pool = checks::load(a.pool, program_id)?;
    let from = |account| PoolVault {
        account,
        pool: a.pool,
        node: &pool.node,
        bump: pool.bump,
    };
    from(a.pool_stake).pay(a.emission_vault, stake_surplus.get(), 0)?;
    from(a.pool_fees).pay(a.market_fees, fee_surplus.get(), 0)?;
    from(a.pool_stake).close(a.operator)?;
    from(a.pool_fees).close(a.operator)?;
    let market: &mut Market = checks::load_mut(a.market, program_id)?;
    market.market_owed.grow(fee_surplus)?;
    require(
        checks::balance(a.market_fees)? >= market.market_owed.plus(market.protocol_owed)?,
        MarketError::ConservationBroken,
    )?;
    events::NodeClosed {
        node: Key::of(a.node),
        operator: Key::of(a.operator),
        pool: Key::of(a.pool),
        stake_surplus,
        fee_surplus,
    }
    .emit();
    cpi::close(a.position, a.operator)?;
    cpi::close(a.pool, a.operator)?;
    cpi::close(a.node, a.operator)
}
