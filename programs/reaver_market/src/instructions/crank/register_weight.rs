//! Specification
//! Signs: anyone (pays the epoch account's rent if it is the first).
//! Changes: the node's weight of the epoch, and the epoch's total.
//! Refuses: outside the first half of the next epoch, twice, a weight of zero.

use crate::{
    checks::{self, require},
    cpi::Fresh,
    errors::MarketError,
    events, math,
    quantities::{Bool, Count, Key, Number, Shares, Stake},
    seeds,
    state::{Config, Epoch, Node, Pool},
    sysvars, Ctx,
};

instruction! {
    /// Registers a node's weight for an epoch's emission.
    register_weight {
        accounts {
            submitter: [signer, writable],
            config: Config [],
            node: Node [writable],
            pool: Pool [],
            epoch: [writable],
            system_program: SystemProgram [],
        }
        args {
            epoch: Number,
        }
    }
}

/// # Errors
/// Whatever the specification above refuses.
#[inline(never)]
pub fn process(ctx: Ctx<'_>) -> Result<(), MarketError> {
    let id = ctx.program_id;
    let epoch = Args::parse(ctx.data)?.epoch;
    let a = Accounts::parse(id, ctx.accounts)?;
    let now = sysvars::now()?;
    let config: &Config = checks::load(a.config, id)?;
    let pool: &Pool = checks::load(a.pool, id)?;
    let (node_key, pool_key) = (Key::of(a.node), Key::of(a.pool));
    let node: &mut Node = checks::load_mut(a.node, id)?;
    require(node.pool == pool_key, MarketError::WrongPool)?;
    // also with a clock that has stepped back, nothing is added to an epoch that is closed
    require(
        config.epoch_at(now) == epoch.plus(Number::new(1))?
            && config.is_first_half(now)
            && epoch >= config.next_epoch,
        MarketError::EpochWindowClosed,
    )?;
    let slot = node.slot_mut(epoch);
    require(!slot.registered.get(), MarketError::WeightRegisteredAlready)?;
    require(!slot.well.is_zero(), MarketError::WeightZero)?;
    let weight = Stake::new(math::mul_div_floor(
        pool.active_stake.get(),
        slot.well.get(),
        slot.well.plus_at_most(slot.lost).get(),
    )?);
    require(!weight.is_zero(), MarketError::WeightZero)?;
    slot.weight = weight;
    slot.registered = Bool::YES;

    let submitter = Key::of(a.submitter);
    if a.epoch.is_data_empty() {
        let account: &mut Epoch = Fresh {
            payer: a.submitter,
            program_id: id,
            seeds: &[seeds::EPOCH, &epoch.get().to_le_bytes()],
        }
        .account(a.epoch)?;
        account.index = epoch;
        account.rent_payer = submitter;
    }
    let account: &mut Epoch = checks::load_mut(a.epoch, id)?;
    require(account.index == epoch, MarketError::WrongEpoch)?;
    account
        .total_weight
        .grow(Shares::new(weight.get() as u128))?;
    account.registered.grow(Count::new(1))?;
    events::WeightRegistered {
        node: node_key,
        epoch,
        weight,
        total_weight: account.total_weight,
    }
    .emit();
    Ok(())
}
