//! Specification
//! Signs: the program's upgrade authority, or the compiled-in key where the program has none; the payer.
//! Changes: makes Config, the compensation vault and the emission vault.
//! Refuses: a stranger, a second time, equal mints, mints of another token program, a protocol's token account of
//! another mint or with a delegate or close authority, parameters out of bounds.

use pinocchio::{AccountView, Address};

use crate::{
    admin_key,
    checks::{self, require},
    cpi::Fresh,
    declare::put,
    errors::MarketError,
    events,
    quantities::{Hash, Key, Millis, Stake},
    seeds,
    state::{Config, Params},
    sysvars, Ctx,
};

instruction! {
    /// Makes the deployment's Config and its two token accounts.
    initialize {
        accounts {
            payer: [signer, writable],
            authority: [signer],
            config: [writable],
            payment_mint: [],
            stake_mint: [],
            protocol_token: [],
            compensation_vault: [writable],
            emission_vault: [writable],
            program: [],
            program_data: [optional],
            token_program: TokenProgram [],
            system_program: SystemProgram [],
        }
        args {
            genesis_hash: Hash,
            params: Params,
            epoch_length: Millis,
            first_emission: Stake,
        }
    }
}

/// `BPFLoaderUpgradeab1e11111111111111111111111`
const UPGRADEABLE_LOADER: Address =
    Address::from_str_const("BPFLoaderUpgradeab1e11111111111111111111111");
/// Variants of the loader's account state, as its first four bytes.
const STATE_PROGRAM: [u8; 4] = [2, 0, 0, 0];
const STATE_PROGRAM_DATA: [u8; 4] = [3, 0, 0, 0];

/// # Errors
/// Whatever the specification above refuses.
#[inline(never)]
pub fn process(ctx: Ctx<'_>) -> Result<(), MarketError> {
    let program_id = ctx.program_id;
    let args = Args::parse(ctx.data)?;
    let a = Accounts::parse(program_id, ctx.accounts)?;
    require(a.program.address() == program_id, MarketError::WrongProgram)?;
    let initial = initial_authority(a.program, a.program_data)?;
    require(
        a.authority.address() == &initial,
        MarketError::NotInitialAuthority,
    )?;
    checks::mint(a.payment_mint)?;
    checks::mint(a.stake_mint)?;
    require(
        a.payment_mint.address() != a.stake_mint.address(),
        MarketError::MintsEqual,
    )?;
    let protocol = checks::token(a.protocol_token)?;
    require(protocol.mint.is(a.payment_mint), MarketError::WrongMint)?;
    require(
        !protocol.is_encumbered(),
        MarketError::TokenAccountDelegated,
    )?;
    args.params.require_bounds(args.epoch_length)?;

    let now = sysvars::now()?;
    let fresh = |seeds| Fresh {
        payer: a.payer,
        program_id,
        seeds,
    };
    fresh(&[seeds::CONFIG]).account::<Config>(a.config)?;
    let owner = a.config.address();
    fresh(&[seeds::COMPENSATION]).token_account(a.compensation_vault, a.stake_mint, owner)?;
    fresh(&[seeds::EMISSION]).token_account(a.emission_vault, a.stake_mint, owner)?;

    let admin = Key::of(a.authority);
    let config: &mut Config = checks::load_mut(a.config, program_id)?;
    config.admin = admin;
    config.genesis_hash = args.genesis_hash;
    config.payment_mint = Key::of(a.payment_mint);
    config.stake_mint = Key::of(a.stake_mint);
    config.protocol_token = Key::of(a.protocol_token);
    config.compensation_vault = Key::of(a.compensation_vault);
    config.emission_vault = Key::of(a.emission_vault);
    put(&mut config.params, &args.params);
    config.epoch_length = args.epoch_length;
    config.epoch_start = now;
    config.scheduled_emission = args.first_emission;
    events::AdminChanged {
        previous: Key::ZERO,
        admin,
    }
    .emit();
    events::ParamsSet::of(&args.params).emit();
    Ok(())
}

/// Who may initialize: the upgrade authority, or the compiled-in key where there is none.
///
/// An authority of zeros counts as none: nobody can sign for it, and some tools write it so.
#[inline(never)]
fn initial_authority(
    program: &AccountView,
    program_data: &AccountView,
) -> Result<Address, MarketError> {
    if !program.owned_by(&UPGRADEABLE_LOADER) {
        return Ok(admin_key::INITIAL_ADMIN);
    }
    // SAFETY: read here and forgotten; the program and its data are never written here.
    let (head, body) = unsafe { (program.borrow_unchecked(), program_data.borrow_unchecked()) };
    let named = head.starts_with(&STATE_PROGRAM)
        && head.get(4..36) == Some(program_data.address().as_array().as_slice());
    require(
        named && program_data.owned_by(&UPGRADEABLE_LOADER),
        MarketError::WrongProgram,
    )?;
    // state (4), slot of the deployment (8), whether there is an authority (1), the authority (32)
    require(
        body.starts_with(&STATE_PROGRAM_DATA),
        MarketError::WrongProgram,
    )?;
    let authority = body
        .get(13..45)
        .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
        .ok_or(MarketError::WrongProgram)?;
    if body[12] == 0 || authority == [0; 32] {
        return Ok(admin_key::INITIAL_ADMIN);
    }
    Ok(Address::new_from_array(authority))
}
