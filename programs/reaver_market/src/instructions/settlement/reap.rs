//! Specification
//!
//! Signs: anyone (the submitter).
//! Changes: ends an escrow that nobody ended: an open one after assign_by, which closes; an assigned one
//! when its last possible moment (the cancellation's stop, or assignment + ready limit + the time left) and
//! the grace have passed: its attempt ends as a contested one that is never a loss, and the escrow goes to
//! closing.
//! Refuses: too early, an escrow in closing, an assigned one while another contest is open.

use crate::{
    checks::{self, require},
    errors::MarketError,
    events::Released,
    quantities::{Bool, Key, Stake, Time},
    reasons,
    settlement::{
        ending::{self, Closing, OneSided},
        shown::finish,
    },
    state::{escrow_state, Allowance, Config, Escrow, Node, Vault},
    sysvars, Ctx,
};

instruction! {
    /// Ends an escrow whose time has run out.
    reap {
        accounts {
            submitter: [signer],
            config: Config [],
            escrow: Escrow [writable],
            vault: Vault [writable],
            allowance: Allowance [writable, optional],
            node: [writable, optional],
            rent_payer: [writable],
        }
        args {
        }
    }
}

/// The last moment that the running attempt could bill, and the grace.
fn deadline(escrow: &Escrow, config: &Config) -> Result<Time, MarketError> {
    let params = &config.params;
    let mut last = escrow
        .attempt
        .assigned_at
        .after(params.ready_limit)?
        .after(escrow.time_left()?)?;
    if escrow.is_stopping() {
        last = last.min(escrow.stop_at);
    }
    last.after(params.reap_grace)
}

/// # Errors
/// Whatever the specification above refuses.
pub fn process(ctx: Ctx<'_>) -> Result<(), MarketError> {
    let id = ctx.program_id;
    let a = Accounts::parse(id, ctx.accounts)?;
    Args::parse(ctx.data)?;
    let now = sysvars::now()?;
    let (submitter, escrow_key, node_key) =
        (Key::of(a.submitter), Key::of(a.escrow), Key::of(a.node));
    let config: &Config = checks::load(a.config, id)?;
    let escrow: &mut Escrow = checks::load_mut(a.escrow, id)?;
    let vault: &mut Vault = checks::load_mut(a.vault, id)?;
    let allowance: Option<&mut Allowance> = checks::load_optional(a.allowance, id)?;
    require(vault.wallet == escrow.wallet, MarketError::WrongVault)?;
    require(
        escrow.rent_payer.is(a.rent_payer),
        MarketError::WrongRentPayer,
    )?;
    ending::check_allowance(escrow, allowance.as_deref())?;

    let reason = match escrow.state {
        escrow_state::OPEN => {
            require(now > escrow.assign_by, MarketError::ReapTooEarly)?;
            reasons::QUEUE_EXPIRED
        }
        escrow_state::ASSIGNED => {
            require(now > deadline(escrow, config)?, MarketError::ReapTooEarly)?;
            require(escrow.attempt.node == node_key, MarketError::WrongNode)?;
            let node: &mut Node = checks::load_mut(a.node, id)?;
            let reason = if escrow.is_stopping() {
                reasons::CANCELLED
            } else {
                reasons::TIMEOUT
            };
            let end = OneSided {
                now,
                reason,
                by_quit: false,
                can_be_loss: false,
            };
            ending::by_one(escrow, node, config, &end)?;
            Released {
                escrow: escrow_key,
                attempt: escrow.contest.attempt.number,
                node: node_key,
                by: submitter,
                reason,
                loss: Bool::NO,
                reserve: escrow.contest.attempt.exposure,
                compensation: Stake::ZERO,
                released_at: now,
            }
            .emit();
            reason
        }
        _ => return Err(MarketError::EscrowIsClosing),
    };
    let closed = Closing {
        key: escrow_key,
        vault,
        allowance,
        now,
        reason,
    }
    .close(escrow)?;
    finish(Some(closed), a.escrow, a.rent_payer)
}
