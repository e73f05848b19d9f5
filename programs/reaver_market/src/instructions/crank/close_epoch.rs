//! Specification
//! Signs: anyone.
//! Changes: the next epoch to be closed gets its emission (one that nobody registered for only decays the schedule); an epoch whose distribution is over is closed, and what it did not draw is free again.
//! Refuses: too early, another epoch than the next one, an epoch still being distributed.

use pinocchio::{AccountView, Address};

use crate::{
    checks::{self, require},
    cpi,
    errors::MarketError,
    events::{EpochClosed, EpochEnded},
    quantities::{Number, Shares, Stake},
    seeds,
    state::{epoch_state, Config, Epoch},
    sysvars, Ctx,
};

instruction! {
    /// Fixes an epoch's emission, or ends its distribution.
    close_epoch {
        accounts {
            submitter: [signer],
            config: Config [writable],
            epoch_account: [writable],
            emission_vault: [],
            rent_payer: [writable],
        }
        args {
            epoch: Number,
        }
    }
}

/// # Errors
/// Whatever the specification above refuses.
#[inline(never)]
pub fn process(ctx: Ctx<'_>) -> Result<(), MarketError> {
    let id = ctx.program_id;
    let epoch = Args::parse(ctx.data)?.epoch;
    let a = Accounts::parse(id, ctx.accounts)?;
    let now = sysvars::now()?;
    let config: &mut Config = checks::load_mut(a.config, id)?;
    require(
        config.emission_vault.is(a.emission_vault),
        MarketError::WrongTokenAccount,
    )?;
    let is_next = epoch == config.next_epoch;
    let (present, following) = (config.epoch_at(now), epoch.plus(Number::new(1))?);
    if is_next {
        require(
            present > following || (present == following && !config.is_first_half(now)),
            MarketError::EpochTooEarly,
        )?;
    }
    if a.epoch_account.is_data_empty() {
        require(is_next, MarketError::WrongEpoch)?;
        let index = epoch.get().to_le_bytes();
        checks::derived(a.epoch_account, &[seeds::EPOCH, &index], id)?;
        config.end_epoch(Stake::ZERO)?;
        EpochClosed {
            epoch,
            emission: Stake::ZERO,
            total_weight: Shares::ZERO,
        }
        .emit();
        return Ok(());
    }
    let account: &mut Epoch = checks::load_mut(a.epoch_account, id)?;
    require(account.index == epoch, MarketError::WrongEpoch)?;
    let is_over = present > following.plus(Number::new(1))?;
    if is_next {
        // too late to be distributed: it draws nothing
        let vault = if is_over {
            Stake::ZERO
        } else {
            Stake::new(checks::balance(a.emission_vault)?.get())
        };
        account.emission = config.end_epoch(vault)?;
        account.state = epoch_state::CLOSED;
        EpochClosed {
            epoch,
            emission: account.emission,
            total_weight: account.total_weight,
        }
        .emit();
        if !is_over {
            return Ok(());
        }
    } else {
        require(
            account.state == epoch_state::CLOSED,
            MarketError::WrongEpoch,
        )?;
        require(is_over, MarketError::EpochNotOver)?;
    }
    end(config, a.epoch_account, a.rent_payer, id)
}

/// Ends an epoch's distribution: frees what it did not draw, and closes its account.
///
/// # Errors
/// `WrongRentPayer`, and as `cpi::close`.
#[inline(never)]
pub fn end(
    config: &mut Config,
    epoch_account: &mut AccountView,
    rent_payer: &mut AccountView,
    program_id: &Address,
) -> Result<(), MarketError> {
    let account: &Epoch = checks::load(epoch_account, program_id)?;
    require(
        account.rent_payer.is(rent_payer),
        MarketError::WrongRentPayer,
    )?;
    let freed = account.emission.minus(account.distributed)?;
    config.committed_emission.shrink(freed)?;
    EpochEnded {
        epoch: account.index,
        distributed: account.distributed,
        freed,
    }
    .emit();
    cpi::close(epoch_account, rent_payer)
}
