//! Specification
//!
//! Signs: the node's key (as submitter).
//! Changes: pays the shown voucher (the node's best one that both sides signed); ends the attempt; opens the
//! contest. It counts as a loss, unless the meter had been silent for three times lost_after.
//! Refuses: another key, an escrow without running attempt, another open contest, everything that
//! `Usage::accept` refuses of the voucher.

use crate::{
    checks::{self, require},
    errors::MarketError,
    messages::VoucherArgs,
    paying,
    quantities::Key,
    reasons,
    settlement::{
        ending::OneSided,
        shown::{Paying, Shown, Till},
    },
    state::escrow_state,
    sysvars, Ctx,
};

instruction! {
    /// Ends an attempt from the node's side.
    quit {
        accounts {
            submitter: [signer],
            config: [],
            market: [writable],
            market_fees: [writable],
            escrow: [writable],
            vault: [writable],
            vault_tokens: [writable],
            allowance: [writable, optional],
            node: [writable],
            pool: [writable],
            pool_fees: [writable],
            payout: [writable],
            instructions: [],
            token_program: [],
        }
        args {
            voucher: VoucherArgs,
        }
    }
}

/// # Errors
/// Whatever the specification above refuses.
pub fn process(ctx: Ctx<'_>) -> Result<(), MarketError> {
    let id = ctx.program_id;
    let a = Accounts::parse(id, ctx.accounts)?;
    let args = Args::parse(ctx.data)?;
    checks::token_program(a.token_program)?;
    let shown = Shown {
        program_id: id,
        voucher: &args.voucher,
        submitter: Key::of(a.submitter),
        instructions: a.instructions,
        escrow: Key::of(a.escrow),
        node: Key::of(a.node),
        payout: a.payout,
        now: sysvars::now()?,
    };
    let Paying { mut states, purses } = paying!(id, a);
    let mut books = states.books(&purses)?;
    require(
        books.escrow.state != escrow_state::CLOSING,
        MarketError::EscrowIsClosing,
    )?;
    require(
        books.escrow.state == escrow_state::ASSIGNED,
        MarketError::EscrowNotAssigned,
    )?;
    require(
        books.escrow.attempt.node == shown.node,
        MarketError::WrongNode,
    )?;
    require(
        shown.submitter == books.node.node_key,
        MarketError::NotNodeKey,
    )?;
    let booked = if args.voucher.sequence.is_zero() {
        None
    } else {
        Some(shown.of_running(&mut books)?)
    };
    let end = OneSided {
        now: shown.now,
        reason: reasons::NODE_QUIT,
        by_quit: true,
        can_be_loss: true,
    };
    let refunded = shown.end(&mut books, &end)?;
    if let Some(booked) = &booked {
        let till = Till { purses: &purses, vault: states.vault,
        escrow: states.escrow, refunded };
    shown.pay(booked, &till)?;
    }
    Ok(())
}
