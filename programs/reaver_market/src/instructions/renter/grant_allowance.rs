//! Specification
//! Signs: the wallet; the payer.
//! Changes: makes the allowance, or replaces its caps; what was used stays counted.
//! Refuses: caps of zero, an expiry in the past, a pause.

use crate::{
    checks::{self, require},
    cpi::Fresh,
    errors::MarketError,
    events,
    quantities::{Key, Price, Time, Tokens},
    seeds,
    state::{pause, Allowance, Config, Market},
    sysvars, Ctx,
};

instruction! {
    /// Lets a market spend for the wallet, within caps.
    grant_allowance {
        accounts {
            payer: [signer, writable],
            wallet: [signer],
            config: Config [],
            market: Market [],
            allowance: [writable],
            system_program: SystemProgram [],
        }
        args {
            escrow_cap: Tokens,
            day_cap: Tokens,
            total_cap: Tokens,
            max_price: Price,
            expires_at: Time,
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
    let config: &Config = checks::load(a.config, program_id)?;
    require(!config.is_paused(pause::GRANT), MarketError::Paused)?;
    checks::load::<Market>(a.market, program_id)?;
    let positive = !args.escrow_cap.is_zero()
        && !args.day_cap.is_zero()
        && !args.total_cap.is_zero()
        && !args.max_price.is_zero();
    require(
        positive && args.expires_at > sysvars::now()?,
        MarketError::AllowanceTerms,
    )?;

    let (wallet, market) = (Key::of(a.wallet), Key::of(a.market));
    if a.allowance.is_data_empty() {
        let allowance: &mut Allowance = Fresh {
            payer: a.payer,
            program_id,
            seeds: &[seeds::ALLOWANCE, &wallet.0, &market.0],
        }
        .account(a.allowance)?;
        allowance.wallet = wallet;
        allowance.market = market;
    }
    let address = Key::of(a.allowance);
    let allowance: &mut Allowance = checks::load_mut(a.allowance, program_id)?;
    require(
        allowance.wallet == wallet && allowance.market == market,
        MarketError::WrongAllowance,
    )?;
    allowance.escrow_cap = args.escrow_cap;
    allowance.day_cap = args.day_cap;
    allowance.total_cap = args.total_cap;
    allowance.max_price = args.max_price;
    allowance.expires_at = args.expires_at;
    events::AllowanceGranted {
        allowance: address,
        wallet,
        market,
        escrow_cap: args.escrow_cap,
        day_cap: args.day_cap,
        total_cap: args.total_cap,
        max_price: args.max_price,
        expires_at: args.expires_at,
    }
    .emit();
    Ok(())
}
