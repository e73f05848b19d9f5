//! Specification
//! Signs: the admin; the payer.
//! Changes: makes a class, or its bond and whether it is enabled.
//! Refuses: a stranger, the id of zeros.

use crate::{
    checks::{self, require},
    cpi::Fresh,
    errors::MarketError,
    events,
    quantities::{Bool, Key, Stake},
    seeds,
    state::{Class, ClassId, Config, ANY_CLASS},
    Ctx,
};

instruction! {
    /// Makes or changes a class of machines.
    set_class {
        accounts {
            payer: [signer, writable],
            admin: [signer],
            config: Config [],
            class_account: [writable],
            system_program: SystemProgram [],
        }
        args {
            class_id: ClassId,
            minimum_bond: Stake,
            enabled: Bool,
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
    require(config.admin.is(a.admin), MarketError::NotAdmin)?;
    args.enabled.parse()?;
    require(args.class_id != ANY_CLASS, MarketError::WrongArguments)?;
    if a.class_account.is_data_empty() {
        let class: &mut Class = Fresh {
            payer: a.payer,
            program_id,
            seeds: &[seeds::CLASS, &args.class_id],
        }
        .account(a.class_account)?;
        class.class_id = args.class_id;
    }
    let address = Key::of(a.class_account);
    let class: &mut Class = checks::load_mut(a.class_account, program_id)?;
    require(class.class_id == args.class_id, MarketError::WrongClass)?;
    class.minimum_bond = args.minimum_bond;
    class.enabled = args.enabled;
    events::ClassSet {
        class_account: address,
        class_id: args.class_id,
        minimum_bond: args.minimum_bond,
        enabled: args.enabled,
    }
    .emit();
    Ok(())
}
