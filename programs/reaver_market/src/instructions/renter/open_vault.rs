//! Specification
//! Signs: the wallet; the payer.
//! Changes: makes the wallet's vault and its token account.
//! Refuses: a second vault, another mint.

use crate::{
    checks::{self, require},
    cpi::Fresh,
    errors::MarketError,
    events,
    quantities::Key,
    seeds,
    state::{Config, Vault},
    Ctx,
};

instruction! {
    /// Makes a wallet's vault.
    open_vault {
        accounts {
            payer: [signer, writable],
            wallet: [signer],
            config: Config [],
            vault: [writable],
            vault_tokens: [writable],
            payment_mint: [],
            token_program: TokenProgram [],
            system_program: SystemProgram [],
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
    let config: &Config = checks::load(a.config, program_id)?;
    require(
        config.payment_mint.is(a.payment_mint),
        MarketError::WrongMint,
    )?;

    let wallet = Key::of(a.wallet);
    Fresh {
        payer: a.payer,
        program_id,
        seeds: &[seeds::VAULT, &wallet.0],
    }
    .account::<Vault>(a.vault)?;
    let address = Key::of(a.vault);
    let bump = Fresh {
        payer: a.payer,
        program_id,
        seeds: &[seeds::VAULT_TOKENS, &address.0],
    }
    .token_account(a.vault_tokens, a.payment_mint, a.vault.address())?;

    let token_account = Key::of(a.vault_tokens);
    let vault: &mut Vault = checks::load_mut(a.vault, program_id)?;
    vault.wallet = wallet;
    vault.token_account = token_account;
    vault.token_account_bump = bump;
    events::VaultOpened {
        vault: address,
        wallet,
        token_account,
    }
    .emit();
    Ok(())
}
