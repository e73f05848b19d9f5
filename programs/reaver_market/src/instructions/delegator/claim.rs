//! Specification
//! Signs: the owner of the position.
//! Changes: pays what the position has earned, the operator's with the commission; closes a position without shares and tickets.
//! Refuses: when nothing is owed. Never paused.

use crate::{
    checks::{self, require},
    errors::MarketError,
    events,
    quantities::Key,
    staking::{self, PoolVault},
    state::{Pool, Position},
    Ctx,
};

instruction! {
    /// Pays out a position's rewards.
    claim {
        accounts {
            owner: [signer],
            pool: Pool [writable],
            position: [writable],
            pool_fees: [writable],
            pool_stake: [writable],
            payment_destination: [writable],
            stake_destination: [writable],
            rent_payer: [writable],
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
    let (owner, address, pool_address) = (Key::of(a.owner), Key::of(a.position), Key::of(a.pool));
    let pool: &mut Pool = checks::load_mut(a.pool, program_id)?;
    require(
        pool.fee_vault.is(a.pool_fees) && pool.stake_vault.is(a.pool_stake),
        MarketError::WrongTokenAccount,
    )?;
    let position: &mut Position = checks::load_mut(a.position, program_id)?;
    position.require_of(&pool_address, &owner)?;
    let earned = pool.take_earned(position)?;
    require(
        !earned.fees.is_zero() || !earned.emission.is_zero(),
        MarketError::NothingOwed,
    )?;

    let (node, bump, fees, stake) = (
        pool.node,
        pool.bump,
        pool.fees_unclaimed,
        pool.recorded_stake()?,
    );
    let from = |account| PoolVault {
        account,
        pool: a.pool,
        node: &node,
        bump,
    };
    // what the operator is owed lies in the fee vault too; only the node knows how much, and `fees_unclaimed`
    // fell by exactly what leaves
    from(a.pool_fees).pay(a.payment_destination, earned.fees.get(), fees.get())?;
    from(a.pool_stake).pay(a.stake_destination, earned.emission.get(), stake.get())?;
    events::RewardsClaimed {
        pool: pool_address,
        position: address,
        owner,
        fees: earned.fees,
        emission: earned.emission,
    }
    .emit();
    staking::close_if_empty(a.position, a.pool, program_id, a.rent_payer)
}
