//! Specification
//!
//! Signs: the wallet, or the matcher of the market under its allowance; the payer of the rent.
//! Changes: makes the escrow; locks the deposit in the vault; takes the nonce of the opener's window; under
//! an allowance counts the deposit against its day and total.
//! Refuses: a deposit below the minimum or above the free balance; a price, time or number of attempts out
//! of bounds; a used nonce; under an allowance a revoked or expired one, a cap exceeded, a ceiling above its
//! price, a market's former matcher; a pause.

use crate::{
    checks::{self, require},
    cpi::Fresh,
    errors::MarketError,
    events::EscrowOpened,
    quantities::{Count, Hash, Key, Millis, Number, Price, Tokens},
    seeds,
    state::{pause, Allowance, ClassId, Config, Escrow, Market, Vault, MAX_ATTEMPTS, MAX_DURATION},
    sysvars, Ctx,
};

instruction! {
    /// Locks a deposit under terms.
    open_escrow {
        accounts {
            payer: [signer, writable],
            authority: [signer],
            config: Config [],
            market: Market [],
            vault: Vault [writable],
            vault_tokens: [],
            allowance: Allowance [writable, optional],
            escrow: [writable],
            system_program: SystemProgram [],
        }
        args {
            nonce: Number,
            class_id: ClassId,
            terms_hash: Hash,
            ceiling_price: Price,
            deposit: Tokens,
            max_time: Millis,
            attempts_allowed: Count,
        }
    }
}

fn check_terms(args: &Args, config: &Config) -> Result<(), MarketError> {
    require(
        args.deposit >= config.params.minimum_deposit,
        MarketError::DepositTooSmall,
    )?;
    require(!args.ceiling_price.is_zero(), MarketError::PriceZero)?;
    require(
        !args.max_time.is_zero() && args.max_time <= MAX_DURATION,
        MarketError::DurationOutOfBounds,
    )?;
    require(
        (1..=MAX_ATTEMPTS).contains(&args.attempts_allowed.get()),
        MarketError::AttemptsOutOfBounds,
    )
}

/// # Errors
/// Whatever the specification above refuses.
pub fn process(ctx: Ctx<'_>) -> Result<(), MarketError> {
    let id = ctx.program_id;
    let a = Accounts::parse(id, ctx.accounts)?;
    let args = Args::parse(ctx.data)?;
    let now = sysvars::now()?;
    let config: &Config = checks::load(a.config, id)?;
    require(!config.is_paused(pause::OPEN), MarketError::Paused)?;
    check_terms(args, config)?;

    let market: &Market = checks::load(a.market, id)?;
    let (authority, market_key) = (Key::of(a.authority), Key::of(a.market));
    let vault: &mut Vault = checks::load_mut(a.vault, id)?;
    require(
        vault.token_account.is(a.vault_tokens),
        MarketError::WrongTokenAccount,
    )?;
    vault.lock(checks::balance(a.vault_tokens)?, args.deposit)?;
    let wallet = vault.wallet;

    let allowance: Option<&mut Allowance> = checks::load_optional(a.allowance, id)?;
    let opener = match allowance {
        Some(allowance) => {
            require(
                allowance.wallet == wallet && allowance.market == market_key,
                MarketError::WrongAllowance,
            )?;
            require(authority == market.matcher, MarketError::NotMatcher)?;
            allowance.require_live(now)?;
            require(
                args.deposit <= allowance.escrow_cap,
                MarketError::EscrowCapExceeded,
            )?;
            require(
                args.ceiling_price <= allowance.max_price,
                MarketError::PriceAboveAllowance,
            )?;
            allowance.use_up(args.deposit, now)?;
            allowance.nonces.take(args.nonce)?;
            market_key
        }
        None => {
            require(authority == wallet, MarketError::NotWallet)?;
            vault.nonces.take(args.nonce)?;
            wallet
        }
    };

    let nonce = args.nonce.get().to_le_bytes();
    let (escrow_key, rent_payer) = (Key::of(a.escrow), Key::of(a.payer));
    let assign_by = now.after(config.params.queue_limit)?;
    let escrow: &mut Escrow = Fresh {
        payer: a.payer,
        program_id: id,
        seeds: &[seeds::ESCROW, &wallet.0, &opener.0, &nonce],
    }
    .account(a.escrow)?;
    escrow.wallet = wallet;
    escrow.opener = opener;
    escrow.market = market_key;
    escrow.nonce = args.nonce;
    escrow.class_id = args.class_id;
    escrow.terms_hash = args.terms_hash;
    escrow.ceiling_price = args.ceiling_price;
    escrow.deposit = args.deposit;
    escrow.max_time = args.max_time;
    escrow.attempts_allowed = args.attempts_allowed;
    escrow.opened_at = now;
    escrow.assign_by = assign_by;
    escrow.day_opened = now.day();
    escrow.rent_payer = rent_payer;
    EscrowOpened {
        escrow: escrow_key,
        wallet,
        opener,
        market: market_key,
        nonce: args.nonce,
        class_id: args.class_id,
        terms_hash: args.terms_hash,
        deposit: args.deposit,
        ceiling_price: args.ceiling_price,
        max_time: args.max_time,
        attempts_allowed: args.attempts_allowed,
        assign_by,
    }
    .emit();
    Ok(())
}
