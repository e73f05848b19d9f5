//! One file per instruction, by actor. Each opens with its specification.

use pinocchio::{error::ProgramError, ProgramResult};

use crate::{errors::MarketError, Ctx};

macro_rules! registry {
    ($($actor:ident { $($(#[doc = $doc:literal])* $name:ident),+ $(,)? })+) => {
        $(
            #[doc = concat!("Instructions of: ", stringify!($actor), ".")]
            pub mod $actor {
                $($(#[doc = $doc])* pub mod $name;)+
            }
        )+

        /// Hands over to the instruction that the first eight bytes name.
        ///
        /// # Errors
        /// `UnknownInstruction`, or whatever the instruction refuses.
        #[inline(never)]
        pub fn dispatch(mut ctx: Ctx<'_>) -> ProgramResult {
            let Some((head, args)) = ctx.data.split_first_chunk::<8>() else {
                return Err(MarketError::UnknownInstruction.into());
            };
            ctx.data = args;
            let head = u64::from_le_bytes(*head);
            let handler: fn(Ctx<'_>) -> Result<(), MarketError> = match head {
                $($($actor::$name::HEAD => $actor::$name::process,)+)+
                _ => return Err(MarketError::UnknownInstruction.into()),
            };
            handler(ctx).map_err(ProgramError::from)
        }

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
