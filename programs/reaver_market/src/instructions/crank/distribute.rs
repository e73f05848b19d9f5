//! Specification
//! Signs: anyone.
//! Changes: stake tokens go from the emission vault to the pool, commission first; the last one closes the epoch's account.
//! Refuses: an epoch not closed or over, a node that has no weight in it or has drawn its part.

use super::close_epoch;
use crate::{
    checks::{self, require},
    cpi::Purse,
    errors::MarketError,
    events, math,
    quantities::{Bool, Count, Key, Number, Stake},
    seeds,
    state::{epoch_state, Config, Epoch, EpochSlot, Node, Pool},
    sysvars, Ctx,
};

instruction! {
    /// Pays a pool its part of an epoch's emission.
    distribute {
        accounts {
            submitter: [signer],
            config: Config [writable],
            node: Node [writable],
            pool: Pool [writable],
            epoch_account: Epoch [writable],
            emission_vault: [writable],
            pool_stake: [writable],
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
    let id = ctx.program_id;
    Args::parse(ctx.data)?;
    let a = Accounts::parse(id, ctx.accounts)?;
    let now = sysvars::now()?;
    let pool_key = Key::of(a.pool);
    let config: &mut Config = checks::load_mut(a.config, id)?;
    let node: &mut Node = checks::load_mut(a.node, id)?;
    let pool: &mut Pool = checks::load_mut(a.pool, id)?;
    let account: &mut Epoch = checks::load_mut(a.epoch_account, id)?;
    require(node.pool == pool_key, MarketError::WrongPool)?;
    require(
        config.emission_vault.is(a.emission_vault) && pool.stake_vault.is(a.pool_stake),
        MarketError::WrongTokenAccount,
    )?;
    let epoch = account.index;
    require(
        config.epoch_at(now) <= epoch.plus(Number::new(2))?,
        MarketError::EpochOver,
    )?;
    require(
        account.state == epoch_state::CLOSED,
        MarketError::EpochNotClosed,
    )?;
    let slot = node.slot_mut(epoch);
    require(slot.registered.get(), MarketError::NotRegistered)?;
    require(!slot.distributed.get(), MarketError::AlreadyDistributed)?;
    slot.distributed = Bool::YES;
    let part = part_floor(account, slot, config)?;
    // without active shares nobody has earned it
    let amount = if pool.active_shares.is_zero() {
        Stake::ZERO
    } else {
        part
    };
    let commission = if amount.is_zero() {
        Stake::ZERO
    } else {
        pool.book_emission(amount, now)?
    };
    pool.distributed_until = epoch.plus(Number::new(1))?;

    account.distributed.grow(amount)?;
    account.served.grow(Count::new(1))?;
    config.committed_emission.shrink(amount)?;
    config.distributed_emission = config.distributed_emission.plus_at_most(amount);
    let is_last = account.served == account.registered;
    require(
        account.distributed <= account.emission,
        MarketError::ConservationBroken,
    )?;
    let (committed, bump) = (config.committed_emission, config.bump);
    Purse {
        account: a.emission_vault,
        authority: a.config,
        seeds: (seeds::CONFIG, &[], bump),
    }
    .pay(a.pool_stake, amount.get(), committed.get())?;
    events::Distributed {
        pool: pool_key,
        epoch,
        amount,
        commission,
    }
    .emit();
    if is_last {
        let config: &mut Config = checks::load_mut(a.config, id)?;
        close_epoch::end(config, a.epoch_account, a.rent_payer, id)?;
    }
    Ok(())
}

/// A pool's part of an epoch's emission, by its weight, but at most what its protocol fees of that epoch
/// stand for: so washing costs what it brings.
#[inline(never)]
fn part_floor(epoch: &Epoch, slot: &EpochSlot, config: &Config) -> Result<Stake, MarketError> {
    let params = &config.params;
    let fees = math::share_floor(slot.protocol_fees, params.emission_cap_bps)?;
    let most = math::stake_of_tokens_floor(fees, params.exposure_rate).unwrap_or(Stake::MAX);
    Ok(math::weighted_floor(epoch.emission, slot.weight, &epoch.total_weight)?.min(most))
}
