//! Specification
//! Signs: the market's authority; the payer.
//! Changes: makes the market and its fee vault.
//! Refuses: equal keys, a fee above the bound, a second market of the same authority, a pause.

use crate::{
    checks::{self, require},
    cpi::Fresh,
    errors::MarketError,
    events,
    quantities::{Bps, Key},
    seeds,
    state::{pause, Config, Market},
    Ctx,
};

instruction! {
    /// Makes a market.
    register_market {
        accounts {
            payer: [signer, writable],
            authority: [signer],
            config: Config [],
            market: [writable],
            market_fees: [writable],
            payment_mint: [],
            token_program: TokenProgram [],
            system_program: SystemProgram [],
        }
        args {
            matcher: Key,
            meter: Key,
            fee_bps: Bps,
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
    require(!config.is_paused(pause::REGISTER), MarketError::Paused)?;
    require(
        config.payment_mint.is(a.payment_mint),
        MarketError::WrongMint,
    )?;
    require(args.matcher != args.meter, MarketError::KeysEqual)?;
    require(
        args.fee_bps <= config.params.max_market_bps,
        MarketError::FeeTooHigh,
    )?;

    let authority = Key::of(a.authority);
    Fresh {
        payer: a.payer,
        program_id,
        seeds: &[seeds::MARKET, &authority.0],
    }
    .account::<Market>(a.market)?;
    let address = Key::of(a.market);
    let bump = Fresh {
        payer: a.payer,
        program_id,
        seeds: &[seeds::MARKET_FEES, &address.0],
    }
    .token_account(a.market_fees, a.payment_mint, a.market.address())?;

    let fee_vault = Key::of(a.market_fees);
    let market: &mut Market = checks::load_mut(a.market, program_id)?;
    market.authority = authority;
    market.matcher = args.matcher;
    market.meter = args.meter;
    market.fee_bps = args.fee_bps;
    market.fee_vault = fee_vault;
    market.fee_vault_bump = bump;
    events::MarketRegistered {
        market: address,
        authority,
        matcher: args.matcher,
        meter: args.meter,
        fee_bps: args.fee_bps,
        fee_vault,
    }
    .emit();
    Ok(())
}
