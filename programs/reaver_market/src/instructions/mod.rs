//! One file per instruction, by actor. Each opens with its specification.

use pinocchio::{AccountView, Address};

use crate::{
    checks::{self, Declared},
    errors::MarketError,
    Ctx,
};

type Handler = fn(Ctx<'_>) -> Result<(), MarketError>;

macro_rules! registry {
    ($($actor:ident { $($(#[doc = $doc:literal])* $name:ident),+ $(,)? })+) => {
        $(
            #[doc = concat!("Instructions of: ", stringify!($actor), ".")]
            pub mod $actor {
                $($(#[doc = $doc])* pub mod $name;)+
            }
        )+

        /// Heads, declarations and handlers in the order of declaration: what runs most comes first.
        static HANDLERS: &[(u64, Declared, Handler)] = &[
            $($(($actor::$name::HEAD, $actor::$name::DECLARED, $actor::$name::process),)+)+
        ];

        /// All instructions, for the IDL.
        #[cfg(not(target_arch = "bpf"))]
        pub const ALL: &[crate::idl::Instruction] = &[$($($actor::$name::IDL),+),+];
    };
}

registry! {
    settlement {
        settle, assign, open_escrow, release_node, quit, contest, close_contest, reap, cancel_escrow,
        extend_escrow, prove_overclaim,
    }
    renter { open_vault, deposit, withdraw, claim_compensation, grant_allowance, revoke_allowance }
    operator {
        register_node, bond, update_node, withdraw_owed, unbond_bond, set_commission, drain, retire,
    }
    delegator { delegate, claim, unbond, withdraw_ticket }
    crank { register_weight, close_epoch, distribute }
    market {
        register_market, rotate_keys, set_fee, withdraw_fees, sweep_protocol_fees, suspend_node,
    }
    admin { initialize, set_class, set_params, set_pause, propose_admin, accept_admin }
}

/// Hands over to the instruction that the first eight bytes name, once its accounts are what it declares.
///
/// # Errors
/// `UnknownInstruction`, what `checks::check` refuses, or whatever the instruction refuses.
pub fn dispatch(
    program_id: &Address,
    accounts: &mut [AccountView],
    data: &[u8],
) -> Result<(), MarketError> {
    let Some((head, data)) = data.split_first_chunk::<8>() else {
        return Err(MarketError::UnknownInstruction);
    };
    let head = u64::from_le_bytes(*head);
    for (candidate, declared, handler) in HANDLERS {
        if *candidate == head {
            let accounts = checks::check(program_id, accounts, declared, data.len())?;
            return handler(Ctx {
                program_id,
                accounts,
                data,
            });
        }
    }
    Err(MarketError::UnknownInstruction)
}
