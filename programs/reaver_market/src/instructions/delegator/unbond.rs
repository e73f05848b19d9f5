//! Specification
//! Signs: the owner of the position (pays the ticket's rent).
//! Changes: the shares leave for the unbonding bucket, as a ticket.
//! Refuses: no shares, more than there are, the operator's own position. Never paused.

use crate::{
    checks,
    errors::MarketError,
    quantities::{Key, Shares},
    staking::Outgoing,
    state::{Config, Pool, Position},
    Ctx,
};

instruction! {
    /// Takes shares out of a pool.
    unbond {
        accounts {
            owner: [signer, writable],
            config: Config [],
            pool: Pool [writable],
            position: [writable],
            ticket: [writable],
            system_program: SystemProgram [],
        }
        args {
            shares: Shares,
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
    let (pool_address, address) = (Key::of(a.pool), Key::of(a.position));
    let pool: &mut Pool = checks::load_mut(a.pool, program_id)?;
    let position: &mut Position = checks::load_mut(a.position, program_id)?;
    position.require_delegators(&pool_address, &Key::of(a.owner))?;
    Outgoing {
        program_id,
        owner: a.owner,
        config: checks::load::<Config>(a.config, program_id)?,
        pool: pool_address,
        position: address,
        shares: args.shares,
    }
    .leave(pool, position, a.ticket)
}
