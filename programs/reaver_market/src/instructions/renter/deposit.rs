//! Specification
//! Signs: whoever owns the source.
//! Changes: moves tokens into the vault.
//! Refuses: nothing at all, another vault's token account.

use crate::{
    checks::{self, require},
    cpi::TokenTransfer,
    errors::MarketError,
    events,
    quantities::{Key, Tokens},
    state::Vault,
    Ctx,
};

instruction! {
    /// Moves tokens into a vault.
    deposit {
        accounts {
            depositor: [signer],
            vault: Vault [],
            source: [writable],
            vault_tokens: [writable],
            token_program: TokenProgram [],
        }
        args {
            amount: Tokens,
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
    require(!args.amount.is_zero(), MarketError::AmountZero)?;
    let vault: &Vault = checks::load(a.vault, program_id)?;
    require(
        vault.token_account.is(a.vault_tokens),
        MarketError::WrongTokenAccount,
    )?;
    require(
        !checks::same(
            a.source.address().as_array(),
            a.vault_tokens.address().as_array(),
        ),
        MarketError::DuplicateAccount,
    )?;
    let amount = TokenTransfer {
        from: a.source,
        to: a.vault_tokens,
        authority: a.depositor,
        amount: args.amount.get(),
    }
    .receive()?;
    events::Deposited {
        vault: Key::of(a.vault),
        wallet: vault.wallet,
        depositor: Key::of(a.depositor),
        amount,
    }
    .emit();
    Ok(())
}
