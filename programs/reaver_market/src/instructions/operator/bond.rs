//! Specification
//! Signs: the operator.
//! Changes: adds to the operator's own stake.
//! Refuses: nothing at all, a dead pool, a retired node, a pause.

use crate::{
    checks::{self, require},
    cpi::TokenTransfer,
    errors::MarketError,
    events,
    quantities::{Key, Stake},
    state::{node_status, pause, Config, Node, Pool, Position},
    Ctx,
};

instruction! {
    /// Adds to the operator's own stake.
    bond {
        accounts {
            operator: [signer],
            config: [],
            node: [],
            pool: [writable],
            position: [writable],
            stake_source: [writable],
            pool_stake: [writable],
            token_program: [],
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
    checks::token_program(a.token_program)?;
    let config: &Config = checks::load(a.config, program_id)?;
    require(!config.is_paused(pause::BOND), MarketError::Paused)?;
    require(!args.amount.is_zero(), MarketError::AmountZero)?;
    let node: &Node = checks::load(a.node, program_id)?;
    require(node.operator.is(a.operator), MarketError::NotOperator)?;
    require(node.pool.is(a.pool), MarketError::WrongPool)?;
    require(
        node.status != node_status::RETIRED,
        MarketError::NodeRetired,
    )?;
    let pool_address = Key::of(a.pool);
    let pool: &mut Pool = checks::load_mut(a.pool, program_id)?;
    require(
        pool.stake_vault.is(a.pool_stake),
        MarketError::WrongTokenAccount,
    )?;
    require(
        a.stake_source.address() != a.pool_stake.address(),
        MarketError::DuplicateAccount,
    )?;
    require(!pool.active().is_dead(), MarketError::PoolDead)?;
    let position: &mut Position = checks::load_mut(a.position, program_id)?;
    require(
        position.pool == pool_address
            && position.owner == node.operator
            && position.is_operator.get(),
        MarketError::WrongPosition,
    )?;

    let stake = Stake::new(
        TokenTransfer {
            from: a.stake_source,
            to: a.pool_stake,
            authority: a.operator,
            amount: args.amount.get(),
        }
        .receive()?
        .get(),
    );
    position.settle(pool)?;
    let shares = pool.active().shares_for_floor(stake)?;
    require(!shares.is_zero(), MarketError::AmountZero)?;
    position.shares = position.shares.plus(shares)?;
    pool.active_stake = pool.active_stake.plus(stake)?;
    pool.active_shares = pool.active_shares.plus(shares)?;
    pool.bond_shares = pool.bond_shares.plus(shares)?;
    require(
        position.shares == pool.bond_shares && pool.bond_shares <= pool.active_shares,
        MarketError::ConservationBroken,
    )?;
    events::Bonded {
        node: Key::of(a.node),
        pool: pool_address,
        operator: node.operator,
        amount: stake,
        shares,
    }
    .emit();
    Ok(())
}
