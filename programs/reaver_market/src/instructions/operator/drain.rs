//! Specification
//! Signs: the operator.
//! Changes: the node's status between active and draining.
//! Refuses: a suspended or retired node.

use crate::{
    checks::{self, require},
    errors::MarketError,
    quantities::{Bool, Key},
    state::{node_status, Node},
    Ctx,
};

instruction! {
    /// Stops taking work, or takes it again.
    drain {
        accounts {
            operator: [signer],
            node: Node [writable],
        }
        args {
            draining: Bool,
        }
    }
}

/// # Errors
/// Whatever the specification above refuses.
#[inline(never)]
pub fn process(ctx: Ctx<'_>) -> Result<(), MarketError> {
    let draining = Args::parse(ctx.data)?.draining.parse()?;
    let a = Accounts::parse(ctx.program_id, ctx.accounts)?;
    let address = Key::of(a.node);
    let node: &mut Node = checks::load_mut(a.node, ctx.program_id)?;
    require(node.operator.is(a.operator), MarketError::NotOperator)?;
    require(
        node.status != node_status::RETIRED,
        MarketError::NodeRetired,
    )?;
    require(
        node.status != node_status::SUSPENDED,
        MarketError::NodeSuspended,
    )?;
    node.status = if draining {
        node_status::DRAINING
    } else {
        node_status::ACTIVE
    };
    node.tell(address);
    Ok(())
}
