//! Specification
//! Signs: anyone; the voucher is the node's.
//! Changes: slashes both buckets into the emission vault; ends the attempt as a release that compensates nobody.
//! Refuses: a voucher within twice the time since the assignment and a contest window; an attempt that does not run.

use crate::{
    checks::{self, require},
    errors::MarketError,
    events::{OverclaimProved, Slashed},
    math,
    messages::{voucher_state, VoucherArgs, MESSAGE_LEN},
    quantities::{Key, Shares, Stake},
    reasons,
    settlement::{
        ending::{self, OneSided, Parting},
        usage::{Latest, Usage},
    },
    staking::PoolVault,
    state::{escrow_state, Allowance, Attempt, Config, Escrow, Node, Params, Pool, Vault},
    sysvars, Ctx,
};

instruction! {
    /// Shows that a node signed for more time than can have passed.
    prove_overclaim {
        accounts {
            submitter: [signer],
            config: Config [],
            escrow: Escrow [writable],
            vault: Vault [writable],
            allowance: Allowance [writable, optional],
            node: Node [writable],
            pool: Pool [writable],
            pool_stake: [writable],
            emission_vault: [writable],
            instructions: [],
            token_program: TokenProgram [],
        }
        args {
            voucher: VoucherArgs,
        }
    }
}

/// # Errors
/// Whatever the specification above refuses.
#[inline(never)]
pub fn process(ctx: Ctx<'_>) -> Result<(), MarketError> {
    let id = ctx.program_id;
    let voucher = &Args::parse(ctx.data)?.voucher;
    let a = Accounts::parse(id, ctx.accounts)?;
    let now = sysvars::now()?;
    let (submitter, escrow_key) = (Key::of(a.submitter), Key::of(a.escrow));
    let (node_key, pool_key) = (Key::of(a.node), Key::of(a.pool));
    let config: &Config = checks::load(a.config, id)?;
    let escrow: &mut Escrow = checks::load_mut(a.escrow, id)?;
    let vault: &mut Vault = checks::load_mut(a.vault, id)?;
    let allowance: Option<&mut Allowance> = checks::load_optional(a.allowance, id)?;
    let node: &mut Node = checks::load_mut(a.node, id)?;
    let pool: &mut Pool = checks::load_mut(a.pool, id)?;
    require(vault.wallet == escrow.wallet, MarketError::WrongVault)?;
    ending::check_allowance(escrow, allowance.as_deref())?;
    require(
        escrow.state != escrow_state::CLOSING,
        MarketError::EscrowIsClosing,
    )?;
    require(
        escrow.state == escrow_state::ASSIGNED,
        MarketError::EscrowNotAssigned,
    )?;
    require(escrow.attempt.node == node_key, MarketError::WrongNode)?;
    require(node.pool == pool_key, MarketError::WrongPool)?;
    require(
        pool.stake_vault.is(a.pool_stake) && config.emission_vault.is(a.emission_vault),
        MarketError::WrongTokenAccount,
    )?;
    Usage {
        program_id: id,
        config,
        escrow: &escrow_key,
        wallet: &escrow.wallet,
        node_key: &node.node_key,
        submitter: &submitter,
        instructions: a.instructions,
        latest: Latest::Now(now),
        stop_at: escrow.stop_at,
        time_left: None,
    }
    .check_overclaim(&escrow.attempt, voucher)?;

    let end = OneSided {
        now,
        reason: reasons::OVERCLAIM,
        by_quit: false,
        can_be_loss: false,
    };
    OverclaimProved {
        escrow: escrow_key,
        attempt: escrow.attempt.number,
        node: node_key,
        at: now,
        billed: voucher.billed,
    }
    .emit();
    Parting {
        config,
        escrow,
        key: escrow_key,
        vault,
        allowance,
        node,
        pool,
        by: &submitter,
    }
    .end(&end)?;

    let slot = node.slot_mut(config.epoch_at(now));
    let params = &config.params;
    let active = slash_floor(pool.active_stake, slot.slashed_active, params)?;
    let unbonding = slash_floor(pool.unbonding_stake, slot.slashed_unbonding, params)?
        .min(pool.unbonding_slashable());
    pool.active_stake = pool.active_stake.minus(active)?;
    pool.unbonding_stake = pool.unbonding_stake.minus(unbonding)?;
    slot.slashed_active = slot.slashed_active.plus(active)?;
    slot.slashed_unbonding = slot.slashed_unbonding.plus(unbonding)?;
    for (bucket, amount) in [(1, active), (2, unbonding)] {
        if amount.is_zero() {
            continue;
        }
        Slashed {
            node: node_key,
            pool: pool_key,
            bucket,
            reason: end.reason,
            amount,
            burned: Shares::ZERO,
        }
        .emit();
    }
    let (amount, recorded) = (active.plus(unbonding)?, pool.recorded_stake()?);
    PoolVault {
        account: a.pool_stake,
        bump: pool.bump,
        pool: a.pool,
        node: &node_key,
    }
    .pay(a.emission_vault, amount.get(), recorded.get())
}

/// The over-claim's part of a bucket, as far as the epoch's cap leaves it. The shares stay.
#[inline(never)]
fn slash_floor(stake: Stake, slashed: Stake, params: &Params) -> Result<Stake, MarketError> {
    let room = math::slash_room_floor(stake, slashed, params.slash_cap_bps)?;
    Ok(math::stake_part_floor(stake, params.overclaim_bps)?.min(room))
}

impl Usage<'_> {
    /// Whether the node signed a voucher that bills more than twice what has passed and a contest window:
    /// beyond every difference of clocks.
    #[inline(never)]
    fn check_overclaim(&self, attempt: &Attempt, voucher: &VoucherArgs) -> Result<(), MarketError> {
        require(!voucher.sequence.is_zero(), MarketError::VoucherMissing)?;
        require(
            (voucher_state::RUNNING..=voucher_state::FINAL).contains(&voucher.state),
            MarketError::VoucherStateUnknown,
        )?;
        let Latest::Now(now) = self.latest else {
            return Err(MarketError::NoOverclaim); // can't be: it is made above
        };
        let passed = now.since(attempt.assigned_at);
        let most = passed.plus(passed)?.plus(self.config.params.contest)?;
        require(voucher.billed > most, MarketError::NoOverclaim)?;
        let amount = math::amount_due_floor(attempt.price, voucher.billed)?;
        self.check_node(attempt, voucher, amount, &mut [0; MESSAGE_LEN])
    }
}
