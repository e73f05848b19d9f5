//! Specification
//! Signs: the operator.
//! Changes: the pending commission, effective after the delay.
//! Refuses: a step larger than the deployment's, more than everything, a retired node.

use crate::{
    checks::{self, require},
    errors::MarketError,
    events, math,
    quantities::Bps,
    state::{node_status, Config, Node, Pool},
    sysvars, Ctx,
};

instruction! {
    /// Announces another commission.
    set_commission {
        accounts {
            operator: [signer],
            config: Config [],
            node: Node [],
            pool: Pool [writable],
        }
        args {
            commission_bps: Bps,
        }
    }
}

/// # Errors
/// Whatever the specification above refuses.
#[inline(never)]
pub fn process(ctx: Ctx<'_>) -> Result<(), MarketError> {
    let program_id = ctx.program_id;
    let commission = Args::parse(ctx.data)?.commission_bps;
    let a = Accounts::parse(program_id, ctx.accounts)?;
    let config: &Config = checks::load(a.config, program_id)?;
    let node: &Node = checks::load(a.node, program_id)?;
    require(node.operator.is(a.operator), MarketError::NotOperator)?;
    require(node.pool.is(a.pool), MarketError::WrongPool)?;
    require(
        node.status != node_status::RETIRED,
        MarketError::NodeRetired,
    )?;
    require(
        u64::from(commission.get()) <= math::BPS_ONE,
        MarketError::ParameterOutOfBounds,
    )?;
    let pool: &mut Pool = checks::load_mut(a.pool, program_id)?;
    let now = sysvars::now()?;
    pool.roll_commission(now);
    let step = commission.get().abs_diff(pool.commission_bps.get());
    require(
        step <= config.params.commission_step_bps.get(),
        MarketError::CommissionStepTooLarge,
    )?;
    let effective_at = now.after(config.params.commission_delay)?;
    pool.pending_commission_bps = commission;
    pool.pending_commission_at = effective_at;
    events::CommissionSet {
        pool: node.pool,
        commission_bps: commission,
        effective_at,
    }
    .emit();
    Ok(())
}
