//! Specification
//! Signs: the owner of the ticket, delegator or operator.
//! Changes: pays what the ticket's shares are worth; closes the ticket, and a position without shares, earnings and tickets.
//! Refuses: before the unlock time. Never paused.

use crate::{
    checks::{self, require},
    cpi,
    errors::MarketError,
    events,
    quantities::{Count, Key},
    staking::{self, PoolVault},
    state::{Pool, Position, Ticket},
    sysvars, Ctx,
};

instruction! {
    /// Pays out an unbonded stake.
    withdraw_ticket {
        accounts {
            owner: [signer],
            pool: Pool [writable],
            position: [writable],
            ticket: Ticket [writable],
            pool_stake: [writable],
            destination: [writable],
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
    let (owner, pool_address) = (Key::of(a.owner), Key::of(a.pool));
    let (address, position_address) = (Key::of(a.ticket), Key::of(a.position));
    let ticket: &Ticket = checks::load(a.ticket, program_id)?;
    require(
        ticket.position == position_address,
        MarketError::WrongTicket,
    )?;
    require(
        ticket.rent_payer.is(a.rent_payer),
        MarketError::WrongRentPayer,
    )?;
    require(
        sysvars::now()? >= ticket.unlock_at,
        MarketError::TicketLocked,
    )?;
    let shares = ticket.shares;
    let pool: &mut Pool = checks::load_mut(a.pool, program_id)?;
    require(
        pool.stake_vault.is(a.pool_stake),
        MarketError::WrongTokenAccount,
    )?;
    let position: &mut Position = checks::load_mut(a.position, program_id)?;
    position.require_of(&pool_address, &owner)?;
    let amount = pool.withdraw(&shares)?;
    position.tickets.shrink(Count::new(1))?;

    let (node, bump, recorded) = (pool.node, pool.bump, pool.recorded_stake()?);
    PoolVault {
        account: a.pool_stake,
        pool: a.pool,
        node: &node,
        bump,
    }
    .pay(a.destination, amount.get(), recorded.get())?;
    events::TicketWithdrawn {
        pool: pool_address,
        ticket: address,
        owner,
        shares,
        amount,
    }
    .emit();
    cpi::close(a.ticket, a.rent_payer)?;
    staking::close_if_empty(a.position, a.pool, program_id, a.rent_payer)
}
