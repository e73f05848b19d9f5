//! Specification
//!
//! Signs: anyone (the submitter).
//! Changes: ends the contest after its window: its reserve goes back to the escrow, or, in state closing, is
//! unlocked and the escrow closed. On a loss burns the operator's bond shares for the compensation noted, as
//! far as bond and the epoch's cap reach, moves that stake to the compensation vault, and owes it to the
//! wallet. Books the attempt. Never fails for want of bond.
//! Refuses: no contest, before the window's end.

use crate::{
    checks::{self, require},
    cpi,
    declare::{clear, put},
    errors::MarketError,
    events::{ContestClosed, Slashed},
    math,
    quantities::{Bool, Count, Key, Shares, Stake, Time, Tokens},
    reasons,
    settlement::ending::{self, Outcome},
    staking::PoolVault,
    state::{escrow_state, Allowance, Config, Contest, Escrow, Node, Pool, Position, Vault},
    sysvars, Ctx,
};

instruction! {
    /// Ends a contest after its window, and takes the compensation of a loss.
    close_contest {
        accounts {
            submitter: [signer],
            config: Config [],
            escrow: Escrow [writable],
            vault: Vault [writable],
            allowance: Allowance [writable, optional],
            node: Node [writable],
            pool: Pool [writable],
            position: Position [writable],
            pool_stake: [writable],
            compensation_vault: [writable],
            rent_payer: [writable],
            token_program: TokenProgram [],
        }
        args {
        }
    }
}

/// What is taken from the bond.
#[derive(Clone, Copy)]
struct Taken {
    stake: Stake,
    burned: Shares,
}

struct Bond<'a> {
    config: &'a Config,
    node: &'a mut Node,
    pool: &'a mut Pool,
    position: &'a mut Position,
    now: Time,
}

impl Bond<'_> {
    /// Burns bond shares for a noted compensation: min(noted, bond, what the epoch's cap leaves).
    #[inline(never)]
    fn take(&mut self, noted: Stake) -> Result<Taken, MarketError> {
        let epoch = self.config.epoch_at(self.now);
        let bond = self.pool.bond()?;
        let room = math::slash_room_floor(
            bond,
            self.node.compensated_in(epoch),
            self.config.params.slash_cap_bps,
        )?;
        let stake = noted.min(bond).min(room);
        if stake.is_zero() {
            return Ok(Taken {
                stake,
                burned: Shares::ZERO,
            });
        }
        self.position.settle(self.pool)?;
        let burned = self
            .pool
            .active()
            .shares_for_ceil(stake)?
            .min(self.pool.bond_shares);
        self.pool.bond_shares.shrink(burned)?;
        self.pool.active_shares.shrink(burned)?;
        self.pool.active_stake.shrink(stake)?;
        self.position.shares.shrink(burned)?;
        let slot = self.node.slot_mut(epoch);
        slot.compensated.grow(stake)?;
        Ok(Taken { stake, burned })
    }
}

/// How the contested attempt counts: a loss, as an over-claim is without being compensated; a quit that was
/// right; anything else as the sides' own.
fn outcome(contest: &Contest) -> Outcome {
    if contest.loss.get() || contest.reason == reasons::OVERCLAIM {
        Outcome::Lost
    } else if contest.by_quit.get() {
        Outcome::Quit
    } else {
        Outcome::Well
    }
}

fn links(a: &Accounts<'_>, escrow: &Escrow, pool: &Pool) -> Result<(), MarketError> {
    require(escrow.is_contested(), MarketError::NoContest)?;
    require(
        escrow.contest.attempt.node.is(a.node),
        MarketError::WrongNode,
    )?;
    require(
        escrow.rent_payer.is(a.rent_payer),
        MarketError::WrongRentPayer,
    )?;
    require(
        pool.stake_vault.is(a.pool_stake),
        MarketError::WrongTokenAccount,
    )
}

/// # Errors
/// Whatever the specification above refuses.
pub fn process(ctx: Ctx<'_>) -> Result<(), MarketError> {
    let id = ctx.program_id;
    let a = Accounts::parse(id, ctx.accounts)?;
    Args::parse(ctx.data)?;
    let now = sysvars::now()?;
    links(&a, checks::load(a.escrow, id)?, checks::load(a.pool, id)?)?;
    let (escrow_key, node_key, pool_key) = (Key::of(a.escrow), Key::of(a.node), Key::of(a.pool));
    let config: &Config = checks::load(a.config, id)?;
    require(
        config.compensation_vault.is(a.compensation_vault),
        MarketError::WrongTokenAccount,
    )?;
    let escrow: &mut Escrow = checks::load_mut(a.escrow, id)?;
    let vault: &mut Vault = checks::load_mut(a.vault, id)?;
    let node: &mut Node = checks::load_mut(a.node, id)?;
    let pool: &mut Pool = checks::load_mut(a.pool, id)?;
    let position: &mut Position = checks::load_mut(a.position, id)?;
    let allowance: Option<&mut Allowance> = checks::load_optional(a.allowance, id)?;
    require(vault.wallet == escrow.wallet, MarketError::WrongVault)?;
    require(node.pool == pool_key, MarketError::WrongPool)?;
    require(
        position.pool == pool_key && position.is_operator.get(),
        MarketError::WrongPosition,
    )?;
    ending::check_allowance(escrow, allowance.as_deref())?;
    let contest = &escrow.contest;
    require(
        now > contest.released_at.after(config.params.contest)?,
        MarketError::ContestWindowOpen,
    )?;

    let (reserve, number) = (contest.attempt.exposure, contest.attempt.number);
    let (loss, reason) = (contest.loss, contest.reason);
    node.exposure.shrink(reserve)?;
    node.attempts.shrink(Count::new(1))?;
    node.held.shrink(contest.compensation)?;
    let mut bond = Bond {
        config,
        node,
        pool,
        position,
        now,
    };
    let taken = bond.take(contest.compensation)?;
    ending::book(
        bond.node,
        &contest.attempt,
        outcome(contest),
        config.epoch_at(now),
    )?;
    vault.compensation_owed.grow(taken.stake)?;
    let closing = escrow.state == escrow_state::CLOSING;
    if closing {
        ending::unlock(escrow, vault, allowance, (reserve, now))?;
    } else if escrow.attempt.number == number {
        put(&mut escrow.attempt, &escrow.contest.attempt);
        escrow.attempt.exposure = Tokens::ZERO;
    }
    clear(&mut escrow.contest);

    let (bump, recorded) = (bond.pool.bump, bond.pool.recorded_stake()?);
    // where nothing is taken the stake vault isn't even looked at: frozen, it must not hold the reserve of an
    // escrow that wasn't lost
    PoolVault {
        account: a.pool_stake,
        pool: a.pool,
        node: &node_key,
        bump,
    }
    .pay(a.compensation_vault, taken.stake.get(), recorded.get())?;
    if !taken.stake.is_zero() {
        Slashed {
            node: node_key,
            pool: pool_key,
            bucket: 0,
            reason,
            amount: taken.stake,
            burned: taken.burned,
        }
        .emit();
    }
    ContestClosed {
        escrow: escrow_key,
        attempt: number,
        node: node_key,
        loss,
        released: reserve,
        refunded: Bool::new(closing),
        compensation: taken.stake,
        burned: taken.burned,
    }
    .emit();
    if closing {
        cpi::close(a.escrow, a.rent_payer)?;
    }
    Ok(())
}
