//! Specification
//! Signs: the operator.
//! Changes: the payout account always; market and class when no attempt is open. Another market lifts a suspension.
//! Refuses: another market or class with attempts open, a bond below the new class bond, a payout account that is not the operator's.

use crate::{
    checks::{self, require},
    errors::MarketError,
    quantities::Key,
    state::{node_status, Class, Config, Market, Node, Pool},
    Ctx,
};

instruction! {
    /// Changes a node's market, class or payout account to the ones passed.
    update_node {
        accounts {
            operator: [signer],
            config: Config [],
            node: Node [writable],
            market: Market [],
            class_account: Class [],
            pool: Pool [],
            payout: [],
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
    let config: &Config = checks::load(a.config, program_id)?;
    checks::load::<Market>(a.market, program_id)?;
    let class: &Class = checks::load(a.class_account, program_id)?;
    let pool: &Pool = checks::load(a.pool, program_id)?;
    let (address, market) = (Key::of(a.node), Key::of(a.market));
    let node: &mut Node = checks::load_mut(a.node, program_id)?;
    require(node.operator.is(a.operator), MarketError::NotOperator)?;
    require(node.pool.is(a.pool), MarketError::WrongPool)?;
    require(
        node.status != node_status::RETIRED,
        MarketError::NodeRetired,
    )?;
    let payout = checks::token(a.payout)?;
    require(payout.mint == config.payment_mint, MarketError::WrongMint)?;
    require(payout.owner == node.operator, MarketError::WrongTokenOwner)?;

    if node.market != market || node.class_id != class.class_id {
        require(node.attempts.is_zero(), MarketError::AttemptsOpen)?;
        require(class.enabled.get(), MarketError::ClassDisabled)?;
        require(
            pool.bond()? >= class.minimum_bond.plus(node.held)?,
            MarketError::BondBelowClass,
        )?;
        if node.market != market && node.status == node_status::SUSPENDED {
            node.status = node_status::ACTIVE;
        }
        node.market = market;
        node.class_id = class.class_id;
    }
    node.payout = Key::of(a.payout);
    node.tell(address);
    Ok(())
}
