//! Specification
//! Signs: the authority of the node's market.
//! Changes: the node's status.
//! Refuses: another market's node, a retired one, lifting what is no suspension.

use crate::{
    checks::{self, require},
    errors::MarketError,
    quantities::{Bool, Key},
    state::{node_status, Market, Node},
    Ctx,
};

instruction! {
    /// Gives one of its nodes no more work, or gives it work again.
    suspend_node {
        accounts {
            authority: [signer],
            market: Market [],
            node: Node [writable],
        }
        args {
            suspended: Bool,
        }
    }
}

/// # Errors
/// Whatever the specification above refuses.
#[inline(never)]
pub fn process(ctx: Ctx<'_>) -> Result<(), MarketError> {
    let args = Args::parse(ctx.data)?;
    let a = Accounts::parse(ctx.program_id, ctx.accounts)?;
    let market: &Market = checks::load(a.market, ctx.program_id)?;
    require(
        market.authority.is(a.authority),
        MarketError::NotMarketAuthority,
    )?;
    let address = Key::of(a.node);
    let node: &mut Node = checks::load_mut(a.node, ctx.program_id)?;
    require(node.market.is(a.market), MarketError::NodeElsewhere)?;
    let is_suspended = node.status == node_status::SUSPENDED;
    require(
        node.status != node_status::RETIRED,
        MarketError::NodeRetired,
    )?;
    node.status = if args.suspended.parse()? {
        require(!is_suspended, MarketError::NodeSuspended)?;
        node_status::SUSPENDED
    } else {
        require(is_suspended, MarketError::NodeNotSuspended)?;
        node_status::ACTIVE
    };
    node.tell(address);
    Ok(())
}
