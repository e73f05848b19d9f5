//! Specification
//! Signs: the owner of the position (pays its rent).
//! Changes: makes the position if there is none; adds stake and shares.
//! Refuses: nothing at all, a dead pool, a retired node, the operator's own position, a pause.

use crate::{
    checks::{self, require},
    cpi::Fresh,
    errors::MarketError,
    events,
    quantities::{Count, Key, Stake},
    seeds,
    staking::Incoming,
    state::{node_status, pause, Config, Node, Pool, Position},
    Ctx,
};

instruction! {
    /// Stakes on a node.
    delegate {
        accounts {
            owner: [signer, writable],
            config: Config [],
            node: Node [],
            pool: Pool [writable],
            position: [writable],
            stake_source: [writable],
            pool_stake: [writable],
            token_program: TokenProgram [],
            system_program: SystemProgram [],
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
    require(!config.is_paused(pause::DELEGATE), MarketError::Paused)?;
    let node: &Node = checks::load(a.node, program_id)?;
    require(node.pool.is(a.pool), MarketError::WrongPool)?;
    require(
        node.status != node_status::RETIRED,
        MarketError::NodeRetired,
    )?;
    let (owner, address) = (Key::of(a.owner), Key::of(a.position));
    let pool_address = Key::of(a.pool);
    let pool: &mut Pool = checks::load_mut(a.pool, program_id)?;
    if a.position.is_data_empty() {
        let position: &mut Position = Fresh {
            payer: a.owner,
            program_id,
            seeds: &[seeds::POSITION, &pool_address.0, &owner.0],
        }
        .account(a.position)?;
        position.pool = pool_address;
        position.owner = owner;
        position.rent_payer = owner;
        pool.positions.grow(Count::new(1))?;
    }
    let position: &mut Position = checks::load_mut(a.position, program_id)?;
    position.require_delegators(&pool_address, &owner)?;

    let shares = Incoming {
        authority: a.owner,
        source: a.stake_source,
        pool_stake: a.pool_stake,
        amount: args.amount,
    }
    .join(pool, position)?;
    events::Delegated {
        pool: pool_address,
        position: address,
        owner,
        amount: args.amount,
        shares,
    }
    .emit();
    Ok(())
}
